//! Signal trampolines that no unwind information describes: musl's, and those of programs without a C library.
//!
//! A handler returns to code that does nothing but the system call rt_sigreturn, with the stack pointer at what the
//! kernel pushed.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use abi::{CFA_SIGNAL, FP_SAME, RA_BELOW_CFA, Rule};

use crate::elf::{Elf, Machine};
use crate::rule;
use crate::span::{Source, Span};

/// Bytes of code without unwind information that are searched in one file.
const SEARCH_BYTES_MAX: u64 = 2 << 20;
/// Stretches of code without unwind information that are searched in one file.
const GAPS_MAX: u32 = 4096;
/// Shorter ones are padding between functions.
const GAP_BYTES_MIN: u32 = 16;
/// Trampolines of one file.
const TRAMPOLINES_MAX: usize = 16;
/// Bytes of code that are searched at once.
const PIECE_BYTES: usize = 16 << 10;
/// mov $15, %rax; syscall, and the same with %eax. A machine's codes end with the same byte.
const X86_64: [&[u8]; 2] = [&[0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05], &[0xb8, 15, 0, 0, 0, 0x0f, 0x05]];
/// mov x8, #139; svc #0
const AARCH64: [&[u8]; 1] = [&[0x68, 0x11, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4]];

/// The rule of a trampoline.
pub(crate) fn rule(machine: Machine) -> Rule {
    let ucontext = match machine {
        Machine::X86_64 => 0,
        Machine::Aarch64 => rule::AARCH64_UCONTEXT,
    };
    Rule::of(CFA_SIGNAL, rule::sp(machine), FP_SAME, RA_BELOW_CFA, 0, ucontext)
}

/// Trampolines in the code between spans, which are sorted. Each begins a byte early: the handler returns to its first
/// instruction, and return addresses are looked up one byte before.
pub(crate) fn spans(file: &File, elf: &Elf, known: &[Span]) -> Vec<Span> {
    let codes: &[&[u8]] = match elf.machine {
        Machine::X86_64 => &X86_64,
        Machine::Aarch64 => &AARCH64,
    };
    let mut search =
        Search { file, codes, bytes_left: SEARCH_BYTES_MAX, gaps_left: GAPS_MAX, found: Vec::new() };
    for segment in elf.segments.iter().filter(|segment| segment.is_executable) {
        let Some(code) = elf.code(segment.address, segment.bytes) else { continue };
        let first = known.partition_point(|span| span.end <= code.start);
        let inside = known.iter().skip(first).take_while(|span| span.start < code.end);
        let mut start = code.start;
        for (gap_end, next) in inside.map(|span| (span.start, span.end)).chain([(code.end, code.end)]) {
            search.gap(start..gap_end, code.start);
            start = next;
        }
    }
    search.found
}

struct Search<'a> {
    file: &'a File,
    codes: &'a [&'a [u8]],
    bytes_left: u64,
    gaps_left: u32,
    found: Vec<Span>,
}

impl Search<'_> {
    /// Searches one stretch of code of a segment that starts at `segment_start`.
    fn gap(&mut self, gap: Range<u32>, segment_start: u32) {
        if gap.len() < GAP_BYTES_MIN as usize || self.gaps_left == 0 {
            return;
        }
        self.gaps_left -= 1;
        let longest = self.codes.iter().map(|code| code.len()).max().unwrap_or_default();
        let (mut at, mut piece) = (gap.start, [0; PIECE_BYTES]);
        loop {
            let bytes = (gap.end - at).min(PIECE_BYTES as u32);
            let Some(piece) = piece.get_mut(..bytes as usize) else { return };
            let left = self.bytes_left.checked_sub(bytes.into());
            self.bytes_left = left.unwrap_or_default();
            if left.is_none() || self.file.read_exact_at(piece, at.into()).is_err() {
                return;
            }
            self.piece(piece, at, segment_start);
            if at + bytes == gap.end {
                return;
            }
            // What lies across two pieces is seen in the second.
            at += bytes - (longest as u32 - 1);
        }
    }

    fn piece(&mut self, piece: &[u8], at: u32, segment_start: u32) {
        let Some(last) = self.codes.iter().find_map(|code| code.last()) else { return };
        for (end, _) in piece.iter().enumerate().filter(|(_, byte)| *byte == last) {
            let Some(before) = piece.get(..=end) else { return };
            let Some(code) = self.codes.iter().find(|code| before.ends_with(code)) else { continue };
            if self.found.len() < TRAMPOLINES_MAX {
                let end = at + end as u32 + 1;
                let early = (end - code.len() as u32).saturating_sub(1).max(segment_start);
                self.found.push(Span::new(early..end, 0, Source::Code));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::elf::Segment;

    fn found(code: &[u8], known: &[Span]) -> Vec<(u32, u32)> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(code).unwrap();
        let bytes = code.len() as u64;
        let elf = Elf {
            machine: Machine::X86_64,
            file_bytes: bytes,
            segments: vec![Segment { offset: 64, bytes: bytes - 64, address: 64, is_executable: true }],
            sections: Vec::new(),
            has_sections: true,
            eh_frame_hdr: None,
        };
        spans(&file, &elf, known).iter().map(|span| (span.start, span.end)).collect()
    }

    #[test]
    fn a_trampoline_is_found_once_wherever_it_lies_in_code_that_nothing_describes() {
        let piece = PIECE_BYTES as u32;
        for at in [65, 100, 64 + piece - 9, 64 + piece - 8, 64 + piece - 1, 64 + piece, 2 * piece + 64] {
            let mut code = vec![0x90; 3 * PIECE_BYTES];
            code[at as usize..at as usize + 9].copy_from_slice(X86_64[0]);
            assert_eq!(found(&code, &[]), [(at - 1, at + 9)], "{at}");
            let known = |start, end| Span::new(start..end, 0, Source::EhFrame);
            assert_eq!(found(&code, &[known(at - 40, at + 40)]), [], "{at}");
            assert_eq!(found(&code, &[known(0, at), known(at + 16, at + 30)]), [(at - 1, at + 9)], "{at}");
        }
    }

    #[test]
    fn the_first_byte_of_a_segment_has_none_before_it() {
        let mut code = vec![0x90; 200];
        code[64..71].copy_from_slice(X86_64[1]);
        assert_eq!(found(&code, &[]), [(64, 71)]);
    }

    #[test]
    fn no_more_is_searched_and_found_than_the_limits() {
        let code: Vec<u8> = X86_64[0].iter().copied().cycle().take(4096).collect();
        assert_eq!(found(&code, &[]).len(), TRAMPOLINES_MAX);
        let mut far = vec![0x90; SEARCH_BYTES_MAX as usize + 4096];
        let end = far.len() - 9;
        far[end..].copy_from_slice(X86_64[0]);
        assert_eq!(found(&far, &[]), []);
    }
}
