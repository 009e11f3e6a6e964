//! The two count maps: the programs write one while the other is drained.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use abi::{Control, StackKey};
use aya::Ebpf;
use aya::maps::{Array, Map, MapData};
use libbpf_rs::libbpf_sys;

use super::{descriptor, map_error, missing, take};
use crate::Error;

/// Entries taken out of a count map by one system call.
const BATCH_ENTRIES: usize = 1024;

/// Both maps, and which of them is written.
pub(super) struct Counts {
    control: Array<MapData, Control>,
    /// Drained in batches, which aya does not have.
    maps: [OwnedFd; 2],
    active: usize,
    /// A batch, kept: fresh memory each second costs more than what comes in it.
    keys: Vec<StackKey>,
    values: Vec<u64>,
}

impl std::fmt::Debug for Counts {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Counts").field("active", &self.active).finish_non_exhaustive()
    }
}

impl Counts {
    pub(super) fn take(bpf: &mut Ebpf) -> Result<Self, Error> {
        Ok(Self {
            control: Array::try_from(take(bpf, "CONTROL")?).map_err(map_error)?,
            maps: [counts(bpf, "COUNTS_0")?, counts(bpf, "COUNTS_1")?],
            active: 0,
            keys: vec![StackKey { hash: 0, tgid: 0, exec_id: 0 }; BATCH_ENTRIES],
            values: vec![0; BATCH_ENTRIES],
        })
    }

    /// Makes the other map the active one.
    pub(super) fn switch(&mut self) -> Result<(), Error> {
        let next = self.active ^ 1;
        self.control.set(0, Control { active: next as u32, reserved: 0 }, 0).map_err(map_error)?;
        self.active = next;
        Ok(())
    }

    /// Takes all counts out of the map that is not active.
    pub(super) fn drain(&mut self, mut handle: impl FnMut(StackKey, u64)) -> Result<(), Error> {
        let fd = self.maps[self.active ^ 1].as_raw_fd();
        let Self { keys, values, .. } = self;
        let mut position = 0u64;
        let mut started = false;
        loop {
            let mut count = BATCH_ENTRIES as u32;
            let from = if started { (&raw mut position).cast() } else { std::ptr::null_mut() };
            // SAFETY: the buffers hold BATCH_ENTRIES keys and values of the map's sizes; the position is
            // a hash map's u32 bucket number, with room to spare.
            let result = unsafe {
                libbpf_sys::bpf_map_lookup_and_delete_batch(
                    fd,
                    from,
                    (&raw mut position).cast(),
                    keys.as_mut_ptr().cast(),
                    values.as_mut_ptr().cast(),
                    &raw mut count,
                    std::ptr::null(),
                )
            };
            let error = (result < 0).then(io::Error::last_os_error);
            let at_end = error.as_ref().and_then(io::Error::raw_os_error) == Some(libc::ENOENT);
            if let Some(source) = error
                && !at_end
            {
                return Err(Error::System { what: "take counts out of the kernel".into(), source });
            }
            for (key, value) in keys.iter().zip(values.iter()).take(count as usize) {
                handle(*key, *value);
            }
            if at_end {
                return Ok(());
            }
            started = true;
        }
    }
}

fn counts(bpf: &mut Ebpf, name: &str) -> Result<OwnedFd, Error> {
    match take(bpf, name)? {
        Map::HashMap(data) => descriptor(&data),
        _ => Err(missing(name)),
    }
}
