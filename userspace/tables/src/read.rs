//! From a file to its rows.

use std::fs::File;

use crate::Error;
use crate::elf::{Elf, Machine, Section, SectionKind, Segment};
use crate::frames::Frames;
use crate::go::Go;
use crate::rows::{Builder, ROWS_MAX, Rows};
use crate::span::{self, Source, Span};
use crate::trampoline;

/// What functions are aligned to: less between two functions is padding, where nothing runs.
const PADDING_BYTES_MAX: u32 = 16;

/// Reads all unwind rows of an executable file; none when it has no unwind information.
///
/// Takes 8 bytes of memory for each row and 16 for each function, twice that while they grow, and up to 64 MiB of blocks
/// of a section whose entries are in no order. Compressed sections are not read.
pub fn read(file: &File) -> Result<Rows, Error> {
    let elf = Elf::read(file)?;
    let parts = Parts {
        go: Go::find(file, &elf),
        eh_frame: Frames::eh_frame(file, &elf),
        debug_frame: Frames::debug_frame(file, &elf),
        has_code: true,
    };
    Ok(parts.rows(file, &elf))
}

/// What a file has.
#[derive(Debug, Default)]
struct Parts<'a> {
    go: Option<Go<'a>>,
    eh_frame: Option<Frames<'a>>,
    debug_frame: Option<Frames<'a>>,
    /// The code itself can be searched for trampolines.
    has_code: bool,
}

impl Parts<'_> {
    fn rows(mut self, file: &File, elf: &Elf) -> Rows {
        let mut builder = Builder::new(ROWS_MAX);
        let spans = self.spans(file, elf, &mut builder);
        let mut end = 0;
        for span in &spans {
            let is_padding =
                span.start - end < PADDING_BYTES_MAX && span.start.is_multiple_of(PADDING_BYTES_MAX);
            if !is_padding {
                builder.push(end, None);
            }
            if builder.is_full() {
                break;
            }
            match (span.source, &mut self.go, &mut self.eh_frame, &mut self.debug_frame) {
                (Source::Go, Some(go), _, _) => go.rows(span, &mut builder),
                (Source::EhFrame, _, Some(frames), _) | (Source::DebugFrame, _, _, Some(frames)) => {
                    frames.rows(span, &mut builder);
                }
                (Source::Code, ..) => {
                    builder.push(span.start, Some(trampoline::rule(elf.machine)));
                }
                _ => {}
            }
            end = span.end;
        }
        builder.push(end, None);
        builder.finish()
    }

    fn spans(&mut self, file: &File, elf: &Elf, builder: &mut Builder) -> Vec<Span> {
        let mut all = Vec::new();
        if let Some(go) = &mut self.go {
            all = go.spans(elf, &mut builder.dropped);
            span::sort(&mut all);
        }
        for frames in [&mut self.eh_frame, &mut self.debug_frame].into_iter().flatten() {
            let mut spans = frames.spans(elf, &mut builder.dropped);
            span::sort(&mut spans);
            all = span::merge(all, spans);
        }
        if all.is_empty() || !self.has_code {
            return all;
        }
        let mut trampolines = trampoline::spans(file, elf, &all);
        span::sort(&mut trampolines);
        span::merge(all, trampolines)
    }
}

/// As [`read`], of a file that is nothing but the content of an `.eh_frame`.
pub fn read_eh_frame(file: &File) -> Result<Rows, Error> {
    let elf = alone(file, SectionKind::EhFrame)?;
    Ok(Parts { eh_frame: Frames::eh_frame(file, &elf), ..Parts::default() }.rows(file, &elf))
}

/// As [`read`], of a file that is nothing but the content of a `.gopclntab`.
pub fn read_gopclntab(file: &File) -> Result<Rows, Error> {
    let elf = alone(file, SectionKind::GoPclntab)?;
    Ok(Parts { go: Go::find(file, &elf), ..Parts::default() }.rows(file, &elf))
}

/// Headers as of an executable whose only section is the whole file, and whose code lies anywhere.
fn alone(file: &File, kind: SectionKind) -> Result<Elf, Error> {
    let file_bytes = file.metadata()?.len();
    let text = Section { kind: SectionKind::Text, offset: 0, bytes: file_bytes, address: 0 };
    Ok(Elf {
        machine: Machine::X86_64,
        file_bytes,
        segments: vec![Segment { offset: 0, bytes: 1 << 32, address: 0, is_executable: true }],
        sections: vec![Section { kind, offset: 0, bytes: file_bytes, address: 1 << 32 }, text],
        has_sections: true,
        eh_frame_hdr: None,
    })
}
