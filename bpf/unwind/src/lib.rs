//! From one frame to the next: the same code in the kernel programs, in user space over copied stacks, and
//! over recordings. No allocation, no panic, no loop without a limit.
#![cfg_attr(not(test), no_std)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

mod arch;
#[cfg(test)]
mod fake;
mod locate;
mod step;
mod walk;

pub use arch::{Aarch64, Arch, Native, X86_64};
pub use locate::{Pages, find_mapping, find_rule};
pub use walk::{Found, Place, Space, Step, Walk, unwind};
