//! The layout of the process image that was interrupted.

use abi::{Counter, EXEC_PAGES_UNCHECKED, End, Mapping, VERSION_GIVEN_UP, image_key};
use aya_ebpf::helpers::generated::bpf_get_current_task;

use crate::{
    globals::{offset, setting},
    identity::read_field,
    maps::{self, IMAGES},
    scratch::Scratch,
};

/// Whether the task has an address space; one on its way out has none.
#[inline(always)]
pub(crate) fn has_memory() -> bool {
    offset!(task_mm) == 0 || mm() != 0
}

/// Whether the task replaces its program: from some moment on its memory is the new one's, while its registers and
/// its exec id are still the old one's (fs/exec.c, begin_new_exec).
#[inline(always)]
pub(crate) fn is_in_exec() -> bool {
    let mask = offset!(in_execve_mask) as u8;
    // SAFETY: takes no argument.
    let task = unsafe { bpf_get_current_task() };
    mask != 0 && read_field::<u8>(task, offset!(task_in_execve)).unwrap_or(0) & mask != 0
}

/// What user space has told of an image.
pub(crate) enum Told {
    Layout,
    GivenUp,
}

/// Finds the layout into `scratch.image`, or says why the sample cannot be unwound here.
#[inline(always)]
pub(crate) fn find(scratch: &mut Scratch) -> Result<Told, End> {
    let key = image_key(scratch.event.tgid, scratch.event.exec_id);
    // SAFETY: the value is copied at once; user space updates it by replacing it.
    let Some(image) = (unsafe { IMAGES.get(key) }) else {
        return Err(End::ImageUnknown);
    };
    scratch.image = *image;
    // Copied, then compared by what stands there now: an update frees the old value, which may become another image's
    // while it is copied.
    // SAFETY: the value stays memory of the map.
    let start_time_ns = unsafe { core::ptr::read_volatile(&raw const image.start_time_ns) };
    if scratch.image.start_time_ns != scratch.event.start_time_ns
        || start_time_ns != scratch.event.start_time_ns
    {
        return Err(End::ImageUnknown);
    }
    if scratch.image.version == VERSION_GIVEN_UP {
        return Ok(Told::GivenUp);
    }
    if setting!(checks_exec_pages) == 1 && scratch.image.exec_pages != EXEC_PAGES_UNCHECKED {
        let exec_pages: Option<u64> = read_field(mm(), offset!(mm_exec_vm));
        if exec_pages != Some(scratch.image.exec_pages) {
            maps::count(Counter::LayoutStale);
            return Err(End::LayoutStale);
        }
    }
    // Empty, of the last sample's image otherwise.
    scratch.lookup.mapping = Mapping::default();
    Ok(Told::Layout)
}

/// Where the process's first stack began; 0 when it is not known.
#[inline(always)]
pub(crate) fn stack_start() -> u64 {
    if offset!(mm_start_stack) == 0 {
        return 0;
    }
    read_field(mm(), offset!(mm_start_stack)).unwrap_or(0)
}

#[inline(always)]
fn mm() -> u64 {
    // SAFETY: takes no argument.
    let task = unsafe { bpf_get_current_task() };
    read_field(task, offset!(task_mm)).unwrap_or(0)
}
