//! `.gopclntab`: Go's own table of functions, of versions 1.16 and newer (runtime/symtab.go, cmd/link pcln.go).
//!
//! For each function it gives how far the stack pointer is below the function's frame, place by place. Frames of more
//! than a return address begin with the saved frame pointer.

use std::fs::File;

use abi::{CFA_REGISTER, CFA_SIGNAL, FP_AT_CFA, FP_SAME, RA_ABOVE_FP, RA_BELOW_CFA, RA_IN_LR, Rule};

use crate::blocks::Blocks;
use crate::elf::{Elf, Machine, Section, SectionKind};
use crate::rows::{Builder, Dropped};
use crate::rule::{self, AARCH64_FP};
use crate::span::{SPANS_MAX, Source, Span};

mod function;
mod header;

pub(crate) use header::Header;

/// Bytes of the table that are read; Kubernetes' largest binaries have 144 MiB.
pub(crate) const TABLE_BYTES_MAX: u64 = 512 << 20;
/// Changes of the stack pointer that are looked at.
const STEPS_MAX: u64 = 16 << 20;

/// The table of one file.
#[derive(Debug)]
pub(crate) struct Go<'a> {
    machine: Machine,
    blocks: Blocks<'a>,
    header: Header,
    /// Address of `runtime.text`, from which functions count.
    text: u64,
    steps_left: u64,
}

impl<'a> Go<'a> {
    /// The file's table, when it has one that can be read.
    pub(crate) fn find(file: &'a File, elf: &Elf) -> Option<Self> {
        let section = match elf.section(SectionKind::GoPclntab) {
            Some(section) => *section,
            None if elf.has_sections => return None,
            None => header::search(file, elf)?,
        };
        Self::open(file, elf, &section)
    }

    fn open(file: &'a File, elf: &Elf, section: &Section) -> Option<Self> {
        let mut blocks = Blocks::new(file, elf.file_bytes, section.offset, section.bytes, TABLE_BYTES_MAX);
        let header = Header::read(&mut blocks)?;
        let text = header::text_start(file, elf, section.address, &header, &mut blocks)?;
        Some(Self { machine: elf.machine, blocks, header, text, steps_left: STEPS_MAX })
    }

    /// What code each function is.
    pub(crate) fn spans(&mut self, elf: &Elf, dropped: &mut Dropped) -> Vec<Span> {
        let mut spans = Vec::new();
        let Some((mut entry, mut place)) = self.header.function(0, &mut self.blocks) else { return spans };
        for index in 1..=self.header.functions {
            // The last entry has an end only.
            let next = self.header.function(index, &mut self.blocks);
            let Some((next_entry, next_place)) = next else { break };
            let code = next_entry.checked_sub(entry).filter(|bytes| *bytes > 0).and_then(|bytes| {
                let address = if self.header.has_addresses { entry } else { self.text.checked_add(entry)? };
                elf.code(address, bytes)
            });
            match code {
                Some(_) if spans.len() >= SPANS_MAX => dropped.cut = true,
                Some(code) => match u32::try_from(place) {
                    Ok(place) => spans.push(Span::new(code, place, Source::Go)),
                    Err(_) => dropped.entries += 1,
                },
                None => dropped.outside += 1,
            }
            (entry, place) = (next_entry, next_place);
        }
        spans
    }

    /// The rows of a function.
    pub(crate) fn rows(&mut self, span: &Span, builder: &mut Builder) {
        if self.steps_left == 0 {
            builder.dropped.cut = true;
            builder.push(span.start, None);
            return;
        }
        let Some(function) = function::Function::read(&self.header, u64::from(span.place), &mut self.blocks)
        else {
            builder.dropped.entries += 1;
            builder.push(span.start, None);
            return;
        };
        match function.kind {
            function::Kind::Outermost => {
                builder.push(span.start, Some(Rule::STOP));
            }
            function::Kind::SignalReturn => {
                // The handler returns to the function's first byte, and return addresses are looked up one before.
                let sp = rule::sp(self.machine);
                let signal = Rule::of(CFA_SIGNAL, sp, FP_SAME, RA_BELOW_CFA, 0, 0);
                builder.push(span.start.saturating_sub(1), Some(signal));
            }
            function::Kind::Plain | function::Kind::SwitchesStack => match function.pcsp {
                Some(pcsp) => self.deltas(span, pcsp, function.kind, builder),
                None => {
                    builder.push(span.start, None);
                }
            },
        }
    }

    fn deltas(&mut self, span: &Span, pcsp: u64, kind: function::Kind, builder: &mut Builder) {
        let switches = kind == function::Kind::SwitchesStack;
        let mut deltas = function::Deltas::new(pcsp);
        let mut start = span.start;
        while start < span.end && self.steps_left > 0 {
            self.steps_left -= 1;
            let Some((delta, bytes)) = deltas.next(self.header.quantum, &mut self.blocks) else {
                // The table ends before the function does: padding, or a table that lies.
                builder.push(start, None);
                return;
            };
            if bytes > 0 {
                builder.push(start, Some(frame(self.machine, delta, switches)));
                // Before Go 1.21 such a function on x86-64 keeps nothing on the stack that it leaves: behind its first
                // instruction the stack may be the other one, and where it began is not told.
                let is_frameless = delta == 0 && start == span.start && bytes >= span.end - start;
                if switches && is_frameless && self.machine == Machine::X86_64 {
                    builder.push(start + 1, Some(Rule::UNSUPPORTED));
                }
            }
            start = start.saturating_add(bytes);
        }
    }
}

/// The rule of a place where the stack pointer is `delta` bytes below the frame.
fn frame(machine: Machine, delta: i32, switches_stack: bool) -> Rule {
    let sp = rule::sp(machine);
    match machine {
        _ if delta < 0 || delta % 8 != 0 => Rule::UNSUPPORTED,
        Machine::X86_64 if delta == 0 => Rule::of(CFA_REGISTER, sp, FP_SAME, RA_BELOW_CFA, 0, 8),
        Machine::X86_64 if switches_stack => Rule::FRAME_POINTER,
        Machine::X86_64 => match delta.checked_add(8) {
            Some(offset) => Rule::of(CFA_REGISTER, sp, FP_AT_CFA, RA_BELOW_CFA, -2, offset),
            None => Rule::UNSUPPORTED,
        },
        Machine::Aarch64 if delta == 0 => Rule::of(CFA_REGISTER, sp, FP_SAME, RA_IN_LR, 0, 0),
        // The link register is at sp, the frame pointer right below it, and it points there.
        Machine::Aarch64 => match i16::try_from(delta / 8 + 1) {
            Ok(words) if switches_stack => {
                Rule::of(CFA_REGISTER, AARCH64_FP, FP_AT_CFA, RA_ABOVE_FP, -words, delta + 8)
            }
            Ok(words) => Rule::of(CFA_REGISTER, sp, FP_AT_CFA, RA_ABOVE_FP, -words, delta),
            Err(_) => Rule::UNSUPPORTED,
        },
    }
}
