//! One x86-64 instruction, as far as it matters where variables lie.

/// Where an operand is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operand {
    Register(usize),
    /// From the next instruction.
    Relative(i32),
    Absolute(u64),
    /// From the thread pointer.
    Thread(i32),
    /// As far from the thread pointer as a register says.
    ThreadRegister(usize),
    Memory {
        base: usize,
        index: Option<(usize, u32)>,
        offset: i32,
    },
    Other,
}

/// What an instruction does to registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Nothing,
    Return,
    Jump,
    Call,
    Move {
        to: usize,
        from: Operand,
    },
    Address {
        to: usize,
        from: Operand,
    },
    Constant {
        to: usize,
        value: u64,
    },
    AddConstant {
        to: usize,
        value: i64,
    },
    ShiftLeft {
        to: usize,
        bits: u32,
    },
    Add {
        to: usize,
        from: Operand,
    },
    /// The register holds something else then.
    Change {
        to: usize,
    },
}

/// An instruction and its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) operation: Operation,
    pub(super) bytes: usize,
}

/// The instruction that the bytes begin with; `None` for one that is not known or not whole.
pub(super) fn decode(code: &[u8]) -> Option<Instruction> {
    let mut reader = Reader { code, at: 0, rex: 0, thread: false };
    let operation = reader.instruction()?;
    Some(Instruction { operation, bytes: reader.at })
}

struct Reader<'a> {
    code: &'a [u8],
    at: usize,
    rex: u8,
    thread: bool,
}

/// The register field and the operand of a ModRM byte.
struct Fields {
    register: usize,
    operand: Operand,
}

const REX_WIDE: u8 = 8;
const PREFIXES_MAX: usize = 6;

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.code.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn number<const N: usize>(&mut self) -> Option<[u8; N]> {
        let bytes = self.code.get(self.at..)?.first_chunk::<N>()?;
        self.at += N;
        Some(*bytes)
    }

    fn signed_byte(&mut self) -> Option<i32> {
        self.number::<1>().map(|bytes| i32::from(bytes[0] as i8))
    }

    fn signed(&mut self) -> Option<i32> {
        self.number().map(i32::from_le_bytes)
    }

    fn opcode(&mut self) -> Option<u8> {
        for _ in 0..PREFIXES_MAX {
            match self.byte()? {
                0x64 => self.thread = true,
                0x2e | 0x3e | 0x66 | 0xf2 | 0xf3 => {}
                rex @ 0x40..=0x4f => self.rex = rex,
                opcode => return Some(opcode),
            }
        }
        None
    }

    fn extended(&self, field: u8, bit: u8) -> usize {
        usize::from(field & 7) | usize::from(self.rex >> bit & 1) << 3
    }

    fn instruction(&mut self) -> Option<Operation> {
        let opcode = self.opcode()?;
        match opcode {
            0x0f => self.two_byte(),
            0x01 | 0x03 | 0x89 | 0x8b | 0x8d | 0xb8..=0xbf => self.moving(opcode),
            0x80 | 0x81 | 0x83 => self.with_constant(opcode),
            0xc1 => self.shift(),
            0xc6 | 0xc7 | 0xf6 | 0xf7 => self.store_or_test(opcode),
            0x70..=0x7f | 0xc3 | 0xe8 | 0xe9 | 0xeb | 0xff => self.leaving(opcode),
            _ => self.other(opcode),
        }
    }

    /// What ends or interrupts the straight way.
    fn leaving(&mut self, opcode: u8) -> Option<Operation> {
        Some(match opcode {
            0x70..=0x7f => {
                self.byte()?;
                Operation::Nothing
            }
            0xc3 => Operation::Return,
            0xe8 => {
                self.signed()?;
                Operation::Call
            }
            0xe9 => {
                self.signed()?;
                Operation::Jump
            }
            0xeb => {
                self.byte()?;
                Operation::Jump
            }
            _ => match self.fields()?.register & 7 {
                2 => Operation::Call,
                4 => Operation::Jump,
                6 => Operation::Nothing,
                _ => return None,
            },
        })
    }

    /// What puts something into a register that may be followed.
    fn moving(&mut self, opcode: u8) -> Option<Operation> {
        if let 0xb8..=0xbf = opcode {
            let to = self.extended(opcode, 0);
            let value = match self.rex & REX_WIDE {
                0 => u64::from(self.number().map(u32::from_le_bytes)?),
                _ => self.number().map(u64::from_le_bytes)?,
            };
            return Some(Operation::Constant { to, value });
        }
        // `lea` takes no segment into account.
        self.thread &= opcode != 0x8d;
        let Fields { register, operand } = self.fields()?;
        Some(match (opcode, operand) {
            (0x03, from) => Operation::Add { to: register, from },
            (0x8b, from) => Operation::Move { to: register, from },
            (0x8d, from) => Operation::Address { to: register, from },
            (0x01, Operand::Register(to)) => Operation::Add { to, from: Operand::Register(register) },
            (0x89, Operand::Register(to)) => Operation::Move { to, from: Operand::Register(register) },
            _ => Operation::Nothing,
        })
    }

    fn other(&mut self, opcode: u8) -> Option<Operation> {
        Some(match opcode {
            0x50..=0x57 | 0x90 | 0xc9 | 0xcc => Operation::Nothing,
            0x58..=0x5f => Operation::Change { to: self.extended(opcode, 0) },
            0x09 | 0x21 | 0x29 | 0x31 => changed(self.fields()?.operand),
            0x0b | 0x23 | 0x2b | 0x33 | 0x63 | 0x8a => Operation::Change { to: self.fields()?.register },
            0x38..=0x3b | 0x84 | 0x85 | 0x88 => {
                self.fields()?;
                Operation::Nothing
            }
            0xa8 => {
                self.byte()?;
                Operation::Nothing
            }
            _ => return None,
        })
    }

    fn two_byte(&mut self) -> Option<Operation> {
        Some(match self.byte()? {
            // Hints: `endbr64`, long `nop`.
            0x18..=0x1f => {
                self.fields()?;
                Operation::Nothing
            }
            0x40..=0x4f | 0xaf | 0xb6 | 0xb7 | 0xbe | 0xbf => {
                Operation::Change { to: self.fields()?.register }
            }
            0x80..=0x8f => {
                self.signed()?;
                Operation::Nothing
            }
            0x90..=0x9f => changed(self.fields()?.operand),
            _ => return None,
        })
    }

    /// Arithmetic with a constant: of it only additions to registers are followed.
    fn with_constant(&mut self, opcode: u8) -> Option<Operation> {
        let fields = self.fields()?;
        let value = match opcode {
            0x81 => self.signed()?,
            _ => self.signed_byte()?,
        };
        Some(match (fields.register & 7, fields.operand, opcode) {
            (7, _, _) => Operation::Nothing,
            (0, Operand::Register(to), 0x81 | 0x83) => Operation::AddConstant { to, value: i64::from(value) },
            (_, operand, _) => changed(operand),
        })
    }

    fn shift(&mut self) -> Option<Operation> {
        let fields = self.fields()?;
        let bits = u32::from(self.byte()?);
        Some(match (fields.register & 7, fields.operand) {
            (4, Operand::Register(to)) => Operation::ShiftLeft { to, bits },
            (_, operand) => changed(operand),
        })
    }

    fn store_or_test(&mut self, opcode: u8) -> Option<Operation> {
        let fields = self.fields()?;
        let is_test = opcode >= 0xf6;
        if is_test && fields.register & 7 > 1 {
            return Some(changed(fields.operand));
        }
        let value = if opcode & 1 == 0 { self.signed_byte()? } else { self.signed()? };
        Some(match fields.operand {
            Operand::Register(to) if opcode == 0xc7 => {
                Operation::Constant { to, value: i64::from(value) as u64 }
            }
            Operand::Register(to) if !is_test => Operation::Change { to },
            _ => Operation::Nothing,
        })
    }

    fn fields(&mut self) -> Option<Fields> {
        let modrm = self.byte()?;
        let register = self.extended(modrm >> 3, 2);
        let mode = modrm >> 6;
        if mode == 3 {
            let operand = Operand::Register(self.extended(modrm, 0));
            return Some(Fields { register, operand });
        }
        let (mut base, mut index) = (Some(self.extended(modrm, 0)), None);
        if modrm & 7 == 4 {
            let sib = self.byte()?;
            let field = self.extended(sib >> 3, 1);
            index = (field != 4).then_some((field, 1 << (sib >> 6)));
            base = (sib & 7 != 5 || mode != 0).then_some(self.extended(sib, 0));
        }
        let is_relative = modrm & 7 == 5 && mode == 0;
        let offset = match mode {
            1 => self.signed_byte()?,
            0 if base.is_some() && !is_relative => 0,
            _ => self.signed()?,
        };
        let operand = match (base, index) {
            _ if is_relative && !self.thread => Operand::Relative(offset),
            (None, None) if self.thread => Operand::Thread(offset),
            (None, None) => Operand::Absolute(i64::from(offset) as u64),
            (Some(base), None) if self.thread && offset == 0 && !is_relative => Operand::ThreadRegister(base),
            (Some(base), index) if !self.thread => Operand::Memory { base, index, offset },
            _ => Operand::Other,
        };
        Some(Fields { register, operand })
    }
}

fn changed(operand: Operand) -> Operation {
    match operand {
        Operand::Register(to) => Operation::Change { to },
        _ => Operation::Nothing,
    }
}
