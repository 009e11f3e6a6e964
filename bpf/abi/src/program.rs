//! The kernel programs that are entered by tail call, by their place in the map of programs.

/// Index into the map of programs.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// Unwinds the user stack, and enters itself again while there are frames.
    Native,
    /// Counts the sample by its stack.
    Finish,
    /// Sends registers and a copy of the stack.
    Raw,
}

/// How many there are.
pub const PROGRAM_COUNT: u32 = Program::ALL.len() as u32;

impl Program {
    /// All, in index order.
    pub const ALL: [Self; 3] = [Self::Native, Self::Finish, Self::Raw];

    /// The program's name in the object.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Finish => "finish",
            Self::Raw => "raw",
        }
    }
}
