//! From one Python frame to the next: the same code in the kernel programs and in user space. No allocation, no
//! panic, no loop without a limit.
#![cfg_attr(not(test), no_std)]

mod checksum;
#[cfg(test)]
mod fake;
mod layout;
mod reason;
mod scratch;
mod thread;
mod walk;

pub use checksum::{Identity, checksum};
pub use layout::{
    BLOCK_BYTES_MAX, ENTRY_EACH, ENTRY_FLAG, ENTRY_OWNER, HOPS_MAX, INSTRUCTION_BYTES, INSTRUCTION_POINTER,
    INSTRUCTION_UNITS, Layout, NO_OFFSET, OWNER_ENTRY_MIN, Source, TAG_BITS, UNIT_BYTES,
};
pub use reason::Reason;
pub use scratch::Block;
pub use thread::thread_state;
pub use walk::{Frame, INSTRUCTION_UNKNOWN, Memory, Step, Walk};
