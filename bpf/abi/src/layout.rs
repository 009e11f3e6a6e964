//! Process images, their mappings, and the executables that they map, as the kernel side looks them up.

use crate::RULE_PAGES_MAX;

/// Slots for executables that images map now.
pub const EXECUTABLES_MAX: u32 = 16_384;
/// Process images whose layout the kernel knows.
pub const IMAGES_MAX: u32 = 16_384;

/// [`Mapping::kind`]: a file; `executable` is its slot.
pub const MAPPING_FILE: u32 = 1;
/// [`Mapping::kind`]: code made at run time. Frame pointers are followed, frames are addresses.
pub const MAPPING_ANONYMOUS: u32 = 2;
/// [`Mapping::kind`]: a file that could not be opened, or the legacy vsyscall page. As anonymous.
pub const MAPPING_OPAQUE: u32 = 3;
/// [`Mapping::kind`]: a file that is being opened. The walk ends there, and the sample is sent whole.
pub const MAPPING_PENDING: u32 = 4;

/// One executable mapping; layouts are sorted by `start`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mapping {
    pub start: u64,
    /// Exclusive.
    pub end: u64,
    /// Where in the file `start` lies, bytes; a frame's offset is of 32 bits, larger ones are opaque.
    pub file_offset: u32,
    /// Slot in the map of executables.
    pub executable: u32,
    /// One of `MAPPING_*`; 0 fills a page behind its last mapping.
    pub kind: u32,
    pub reserved: u32,
}

/// A process image's layout; keyed by [`image_key`]. The start time is compared at each sample, so that a
/// reused pid meets no old layout.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Image {
    pub start_time_ns: u64,
    /// Pages that executable mappings must have now (`mm->exec_vm`): another number means that the layout is
    /// out of date. [`EXEC_PAGES_UNCHECKED`] when the kernel counts otherwise than the layout.
    pub exec_pages: u64,
    /// Another one for each layout that is written; [`VERSION_GIVEN_UP`] without one.
    pub version: u32,
    /// Page of mappings, or with `levels` 1 a page of (first address, page).
    pub page: u32,
    /// Mappings or index entries in `page`.
    pub entries: u32,
    pub levels: u32,
}

/// [`Image::version`]: what the image maps cannot be known. Its stacks are walked by frame pointers and not sent whole.
pub const VERSION_GIVEN_UP: u32 = 0;

/// [`Image::exec_pages`]: not compared.
pub const EXEC_PAGES_UNCHECKED: u64 = u64::MAX;

/// [`Executable::state`]: nothing was built yet; a sample that meets it is sent whole and completed later.
pub const EXECUTABLE_PENDING: u32 = 0;
/// [`Executable::state`]: the table is there.
pub const EXECUTABLE_READY: u32 = 1;
/// [`Executable::state`]: the table did not fit the budget; frame pointers are followed.
pub const EXECUTABLE_EVICTED: u32 = 2;
/// [`Executable::state`]: no table can be built of this file; frame pointers are followed.
pub const EXECUTABLE_UNREADABLE: u32 = 3;

/// An executable's unwind table.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Executable {
    /// One of `EXECUTABLE_*`. Written last when the table appears, first when it goes.
    pub state: u32,
    /// Page of index entries (file offset of the first row, page).
    pub root: u32,
    /// Entries in the root page.
    pub entries: u32,
    /// 1: entries of the root are leaves; 2: they are index pages of [`crate::INDEX_ENTRIES_MAX`] entries, the
    /// unused ones with the offset `u32::MAX`.
    pub levels: u32,
    pub rule_pages: [u32; RULE_PAGES_MAX],
}

/// Key of the map of images.
#[inline(always)]
pub const fn image_key(tgid: u32, exec_id: u32) -> u64 {
    (tgid as u64) << 32 | exec_id as u64
}

/// Set in a user frame that is a place in a file; user addresses never have it.
pub const FRAME_IN_FILE: u64 = 1 << 63;

/// A frame at a file offset of the executable in a slot.
#[inline(always)]
pub const fn file_frame(executable: u32, file_offset: u32) -> u64 {
    FRAME_IN_FILE | (executable as u64) << 32 | file_offset as u64
}

/// Slot and file offset of a frame in a file; `None` for an address.
pub const fn frame_in_file(frame: u64) -> Option<(u32, u32)> {
    if frame & FRAME_IN_FILE == 0 {
        return None;
    }
    Some(((frame >> 32) as u32 & 0x7fff_ffff, frame as u32))
}

const _: () = assert!(size_of::<Mapping>() == 32);
const _: () = assert!(size_of::<Image>() == 32);
const _: () = assert!(size_of::<Executable>() == 48);

#[cfg(feature = "user")]
// SAFETY: repr(C), integers only, no padding: the size is asserted above.
unsafe impl aya::Pod for Image {}
#[cfg(feature = "user")]
// SAFETY: repr(C), integers only, no padding: the size is asserted above.
unsafe impl aya::Pod for Executable {}
