//! User registers of an interrupted thread, by their DWARF numbers.

/// General registers kept: 16 on x86-64, 32 on aarch64 (x0 to x30 and sp).
pub const GENERAL_REGISTERS: usize = 32;

/// Registers by DWARF number (System V ABI for AMD64, figure 3.36; DWARF for the Arm 64-bit architecture, 4.1).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registers {
    pub pc: u64,
    pub general: [u64; GENERAL_REGISTERS],
}

const _: () = assert!(size_of::<Registers>() == 8 * (GENERAL_REGISTERS + 1));
