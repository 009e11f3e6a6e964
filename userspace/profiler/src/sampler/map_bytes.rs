//! Memory of the BPF maps, as the kernel accounts it in fdinfo.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs;
use std::mem;

use libbpf_rs::libbpf_sys;

/// BPF_MAP_TYPE_RINGBUF of include/uapi/linux/bpf.h.
const MAP_TYPE_RINGBUF: u64 = 27;

/// Bytes by the map's name, of all maps that this process has open. A ring buffer counts from Linux 6.12 on;
/// before, its size stands for it.
pub(super) fn by_name(ring_bytes: u64) -> BTreeMap<String, u64> {
    let mut maps = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/fdinfo").into_iter().flatten().flatten() {
        let Some(fd) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let Some((kind, memlock)) = kind_and_memlock(fd) else {
            continue;
        };
        let bytes = if kind == MAP_TYPE_RINGBUF { memlock.max(ring_bytes) } else { memlock };
        // A map may be open twice under one name.
        let known: &mut u64 = maps.entry(name(fd)).or_default();
        *known = bytes.max(*known);
    }
    maps
}

/// Of one map; 0 when the kernel does not say.
pub(super) fn of(fd: i32) -> u64 {
    kind_and_memlock(fd).map_or(0, |(_, memlock)| memlock)
}

/// `None` when the descriptor is no map's.
fn kind_and_memlock(fd: i32) -> Option<(u64, u64)> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
    let value = |name: &str| -> Option<u64> {
        info.lines().find_map(|line| line.strip_prefix(name)).and_then(|value| value.trim().parse().ok())
    };
    Some((value("map_type:")?, value("memlock:").unwrap_or(0)))
}

/// Name of a map, 15 characters at most (BPF_OBJ_NAME_LEN).
fn name(fd: i32) -> String {
    let mut info = libbpf_sys::bpf_map_info::default();
    let mut bytes = mem::size_of_val(&info) as u32;
    // SAFETY: the kernel writes at most `bytes` bytes of the struct.
    let result = unsafe { libbpf_sys::bpf_obj_get_info_by_fd(fd, (&raw mut info).cast(), &raw mut bytes) };
    if result != 0 {
        return String::new();
    }
    let characters = info.name.map(|character| character.cast_unsigned());
    CStr::from_bytes_until_nul(&characters).map_or_else(
        |_unterminated| String::from_utf8_lossy(&characters).into_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}
