//! What a few short x86-64 functions compute, found by following their instructions: where a variable lies, which
//! thread-local one is returned. Only the instructions that compilers use there are known; any other one ends it.

mod decode;

use decode::{Instruction, Operand, Operation, decode};

/// Instructions followed in one function.
const INSTRUCTIONS_MAX: usize = 64;
const RAX: usize = 0;
const RDI: usize = 7;
/// Registers that a called function may change.
const CHANGED_BY_CALL: [usize; 9] = [0, 1, 2, 6, 7, 8, 9, 10, 11];
/// `fs:0` and `fs:0x10` both hold the thread pointer itself.
const SELF_OFFSETS: [i32; 2] = [0, 0x10];

/// What a register holds. Addresses are link addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value {
    Unknown,
    /// The function's first argument, times `multiplier`, plus `add`.
    Argument {
        multiplier: u32,
        add: i64,
    },
    /// An address in the file.
    Address(u64),
    /// What is at an address, plus a number.
    Word {
        at: u64,
        plus: i64,
    },
    ThreadPointer,
    /// A thread-specific address that depends on the argument.
    ThreadArgument {
        multiplier: u32,
        add: i64,
    },
    /// The word so far from the thread pointer.
    ThreadWord {
        offset: i32,
    },
    /// The word whose distance from the thread pointer is at an address.
    ThreadSlot {
        at: u64,
    },
    /// The storage that `__tls_get_addr` gives for the pair at an address.
    Block {
        pair: u64,
    },
    /// A word of that storage.
    BlockWord {
        pair: u64,
        plus: i32,
    },
    /// A word chosen by the argument: of the thread's own block, or of a table that a word of it (`table`) leads to.
    Chosen {
        table: Option<i32>,
        multiplier: u32,
        add: i64,
    },
}

/// What a function does that others can see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// It calls, or leaves to, another function, with this first argument.
    Call {
        argument: Value,
    },
    Leave {
        argument: Value,
    },
    Return {
        result: Value,
    },
    /// It reads a word chosen by its argument.
    Choose(Value),
    /// It puts an address into a register.
    Name(u64),
}

/// Follows a function from its first instruction, past conditional jumps, to where it ends.
pub(crate) fn follow(code: &[u8], address: u64) -> Vec<Event> {
    let mut machine = Machine { registers: [Value::Unknown; 16], events: Vec::new() };
    machine.registers[RDI] = Value::Argument { multiplier: 1, add: 0 };
    let mut at = 0;
    for _ in 0..INSTRUCTIONS_MAX {
        let Some(instruction) = code.get(at..).and_then(decode) else { break };
        at += instruction.bytes;
        if !machine.apply(instruction, address.wrapping_add(at as u64)) {
            break;
        }
    }
    machine.events
}

struct Machine {
    registers: [Value; 16],
    events: Vec<Event>,
}

impl Machine {
    /// Whether the function goes on. `next` is the address of the next instruction.
    fn apply(&mut self, instruction: Instruction, next: u64) -> bool {
        let argument = self.registers[RDI];
        match instruction.operation {
            Operation::Nothing => {}
            Operation::Return => {
                self.events.push(Event::Return { result: self.registers[RAX] });
                return false;
            }
            Operation::Jump => {
                self.events.push(Event::Leave { argument });
                return false;
            }
            Operation::Call => {
                self.events.push(Event::Call { argument });
                CHANGED_BY_CALL.iter().for_each(|&register| self.registers[register] = Value::Unknown);
                if let Value::Address(pair) = argument {
                    self.registers[RAX] = Value::Block { pair };
                }
            }
            Operation::Move { to, from } => {
                let value = self.load(from, next);
                self.set(to, value);
            }
            Operation::Address { to, from } => {
                let value = self.address(from, next);
                self.set(to, value);
            }
            Operation::Constant { to, value } => self.set(to, Value::Address(value)),
            Operation::AddConstant { to, value } => self.set(to, plus(self.registers[to], value)),
            Operation::ShiftLeft { to, bits } => {
                let value = match self.registers[to] {
                    Value::Argument { multiplier, add } if bits < 8 => {
                        Value::Argument { multiplier: multiplier << bits, add: add << bits }
                    }
                    _ => Value::Unknown,
                };
                self.set(to, value);
            }
            Operation::Add { to, from } => {
                let value = match (self.registers[to], self.load(from, next)) {
                    (Value::Argument { multiplier, add }, Value::ThreadPointer) => {
                        Value::ThreadArgument { multiplier, add }
                    }
                    (Value::ThreadPointer, Value::Argument { multiplier, add }) => {
                        Value::ThreadArgument { multiplier, add }
                    }
                    _ => Value::Unknown,
                };
                self.set(to, value);
            }
            Operation::Change { to } => self.set(to, Value::Unknown),
        }
        true
    }

    fn set(&mut self, register: usize, value: Value) {
        match value {
            Value::Address(address) => self.events.push(Event::Name(address)),
            Value::Chosen { .. } => self.events.push(Event::Choose(value)),
            _ => {}
        }
        self.registers[register] = value;
    }

    fn address(&self, operand: Operand, next: u64) -> Value {
        match operand {
            Operand::Register(register) => self.registers[register],
            Operand::Relative(offset) => Value::Address(next.wrapping_add_signed(i64::from(offset))),
            Operand::Absolute(address) => Value::Address(address),
            Operand::Memory { base, index: None, offset } => plus(self.registers[base], i64::from(offset)),
            Operand::Memory { base, index: Some((index, 1)), offset: 0 } => {
                match (self.registers[base], self.registers[index]) {
                    (Value::ThreadPointer, Value::Argument { multiplier, add })
                    | (Value::Argument { multiplier, add }, Value::ThreadPointer) => {
                        Value::ThreadArgument { multiplier, add }
                    }
                    _ => Value::Unknown,
                }
            }
            _ => Value::Unknown,
        }
    }

    fn load(&self, operand: Operand, next: u64) -> Value {
        match operand {
            Operand::Register(register) => self.registers[register],
            Operand::Relative(offset) => {
                Value::Word { at: next.wrapping_add_signed(i64::from(offset)), plus: 0 }
            }
            Operand::Absolute(at) => Value::Word { at, plus: 0 },
            Operand::Thread(offset) if SELF_OFFSETS.contains(&offset) => Value::ThreadPointer,
            Operand::Thread(offset) => Value::ThreadWord { offset },
            Operand::ThreadRegister(register) => match self.registers[register] {
                Value::Word { at, plus: 0 } => Value::ThreadSlot { at },
                _ => Value::Unknown,
            },
            Operand::Memory { base, index: None, offset } => match self.registers[base] {
                Value::ThreadPointer => Value::ThreadWord { offset },
                Value::Block { pair } => Value::BlockWord { pair, plus: offset },
                Value::ThreadArgument { multiplier, add } => {
                    Value::Chosen { table: None, multiplier, add: add.wrapping_add(i64::from(offset)) }
                }
                _ => Value::Unknown,
            },
            Operand::Memory { base, index: Some((index, scale)), offset } => {
                match (self.registers[base], self.registers[index]) {
                    (Value::ThreadWord { offset: table }, Value::Argument { multiplier, add }) => {
                        Value::Chosen {
                            table: Some(table),
                            multiplier: multiplier.wrapping_mul(scale),
                            add: add.wrapping_mul(i64::from(scale)).wrapping_add(i64::from(offset)),
                        }
                    }
                    _ => Value::Unknown,
                }
            }
            Operand::Other => Value::Unknown,
        }
    }
}

fn plus(value: Value, number: i64) -> Value {
    match value {
        Value::Address(address) => Value::Address(address.wrapping_add_signed(number)),
        Value::Word { at, plus } => Value::Word { at, plus: plus.wrapping_add(number) },
        Value::Argument { multiplier, add } => Value::Argument { multiplier, add: add.wrapping_add(number) },
        Value::ThreadArgument { multiplier, add } => {
            Value::ThreadArgument { multiplier, add: add.wrapping_add(number) }
        }
        _ => Value::Unknown,
    }
}

#[cfg(test)]
mod tests;
