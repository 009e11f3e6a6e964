//! The maps that hold unwind tables and layouts.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use abi::{CHUNK_PAGES, CHUNKS_MAX, Executable, Image, PAGE_BYTES};
use aya::Ebpf;
use aya::maps::{Array, HashMap, Map, MapData};
use libbpf_rs::libbpf_sys;

use super::{map_bytes, map_error, missing, take};
use crate::Error;
use crate::unwinding::{Chunk, Kernel};

/// Pages, executables and images as the programs see them.
pub(crate) struct Memory {
    pages: OwnedFd,
    executables: Array<MapData, Executable>,
    images: HashMap<MapData, u64, Image>,
    chunk_bytes: Arc<AtomicU64>,
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Memory").field("chunk_bytes", &self.chunk_bytes).finish_non_exhaustive()
    }
}

impl Memory {
    /// `chunk_bytes` grows with each chunk by what the kernel accounts for it.
    pub(super) fn take(bpf: &mut Ebpf, chunk_bytes: Arc<AtomicU64>) -> Result<Self, Error> {
        let Map::ArrayOfMaps(pages) = take(bpf, "PAGES")? else {
            return Err(missing("array of maps"));
        };
        let pages = pages.fd().as_fd().try_clone_to_owned();
        Ok(Self {
            pages: pages.map_err(|source| system("duplicate a map's descriptor", source))?,
            executables: Array::try_from(take(bpf, "EXECUTABLES")?).map_err(map_error)?,
            images: HashMap::try_from(take(bpf, "IMAGES")?).map_err(map_error)?,
            chunk_bytes,
        })
    }
}

impl Kernel for Memory {
    fn add_chunk(&mut self, number: u32) -> Result<Chunk, Error> {
        if number >= CHUNKS_MAX {
            return Err(system("add unwind memory", io::ErrorKind::StorageFull.into()));
        }
        let array = create_chunk().map_err(|source| system("create a map of unwind memory", source))?;
        let chunk = Chunk::map(array.as_fd())
            .map_err(|source| system("map unwind memory into the process", source))?;
        let fd = array.as_raw_fd();
        // SAFETY: a key and a value of the map's sizes; the value is a descriptor.
        let result = unsafe {
            libbpf_sys::bpf_map_update_elem(
                self.pages.as_raw_fd(),
                (&raw const number).cast(),
                (&raw const fd).cast(),
                0,
            )
        };
        if result != 0 {
            return Err(system("show unwind memory to the programs", io::Error::last_os_error()));
        }
        self.chunk_bytes.fetch_add(map_bytes::of(fd), Ordering::Relaxed);
        Ok(chunk)
    }

    fn set_executable(&mut self, slot: u32, executable: &Executable) -> Result<(), Error> {
        self.executables.set(slot, executable, 0).map_err(map_error)
    }

    fn set_image(&mut self, key: u64, image: &Image) -> Result<(), Error> {
        self.images.insert(key, image, 0).map_err(map_error)
    }

    fn remove_image(&mut self, key: u64) {
        // Absent already is what is wanted.
        let _absent = self.images.remove(&key);
    }
}

/// An array like the one that the programs were verified with: the kernel compares type, sizes and flags.
fn create_chunk() -> io::Result<OwnedFd> {
    let options = libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
        map_flags: libbpf_sys::BPF_F_MMAPABLE,
        ..Default::default()
    };
    // SAFETY: a NUL-terminated name and complete options.
    let fd = unsafe {
        libbpf_sys::bpf_map_create(
            libbpf_sys::BPF_MAP_TYPE_ARRAY,
            c"PAGES".as_ptr(),
            size_of::<u32>() as u32,
            PAGE_BYTES as u32,
            CHUNK_PAGES,
            &raw const options,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor just returned.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn system(what: &str, source: io::Error) -> Error {
    Error::System { what: what.to_owned(), source }
}
