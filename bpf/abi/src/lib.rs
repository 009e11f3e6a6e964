//! Every struct, capacity and counter that crosses the kernel border, once.
//! No `bool`, no implicit padding: the sizes are asserted below, and each type is plain bytes.
#![cfg_attr(not(feature = "user"), no_std)]

mod counter;
mod end;
mod event;
mod layout;
mod offsets;
mod page;
mod program;
mod registers;
mod rule;
mod stack;

pub use counter::{COUNTER_COUNT, Counter};
pub use end::End;
pub use event::{
    CGROUP_LEVELS_MAX, CGROUP_NAME_BYTES_MAX, CGROUP_RUNS_DEEPER, CgroupEvent, EVENT_CGROUP, EVENT_RAW,
    EVENT_STACK, RAW_STACK_BYTES_MAX, RawEvent, StackEvent,
};
pub use layout::{
    EXEC_PAGES_UNCHECKED, EXECUTABLE_EVICTED, EXECUTABLE_PENDING, EXECUTABLE_READY, EXECUTABLE_UNREADABLE,
    EXECUTABLES_MAX, Executable, FRAME_IN_FILE, IMAGES_MAX, Image, MAPPING_ANONYMOUS, MAPPING_FILE,
    MAPPING_OPAQUE, MAPPING_PENDING, Mapping, VERSION_GIVEN_UP, file_frame, frame_in_file, image_key,
};
pub use offsets::{CGROUP_NONE, CGROUP_PERF_EVENT, CGROUP_V2, Offsets, Settings};
pub use page::{
    CHUNK_PAGES, CHUNKS_MAX, INDEX_ENTRIES_MAX, LAYOUT_INDEX_ENTRIES_MAX, LAYOUT_MAPPINGS_MAX, LEAF_ROWS_MAX,
    LEAF_SPAN_BYTES, PAGE_BYTES, PAGE_NONE, PAGE_WORDS, Page, ROW_RULE_BITS, ROW_UNUSED, RULE_NONE,
    RULE_PAGES_MAX, RULES_MAX, RULES_PER_PAGE, row, row_offset, row_rule, rule_place,
};
pub use program::{PROGRAM_COUNT, Program};
pub use registers::{GENERAL_REGISTERS, Registers};
pub use rule::{
    CFA_DEREF, CFA_FRAME_POINTER, CFA_PLT, CFA_REGISTER, CFA_SIGNAL, CFA_STOP, CFA_UNSUPPORTED, FP_AT_CFA,
    FP_AT_FP, FP_SAME, FP_UNDEFINED, RA_ABOVE_FP, RA_AT_CFA, RA_BELOW_CFA, RA_IN_LR, Rule,
};
pub use stack::{COMM_BYTES, Control, KERNEL_FRAMES_MAX, StackKey, USER_FRAMES_MAX};
