//! From instructions to lines, in the three formats that line tables have had.

use super::offsets::LineFormat;

const UNIT_BYTES: u32 = python::UNIT_BYTES;
/// Line numbers above are none.
const LINE_MAX: i64 = 1 << 30;
/// In the format of 3.10: no line.
const NO_LINE: i8 = i8::MIN;
/// In the format of 3.11, where an entry begins.
const ENTRY: u8 = 0x80;

/// Where each line begins: byte offsets of instructions, rising, and line numbers; 0 stands for none. A table that lies
/// gives wrong lines, never a failure.
pub(super) fn decode(format: LineFormat, first_line: u32, table: &[u8]) -> Vec<(u32, u32)> {
    let mut lines = Lines { starts: Vec::new() };
    match format {
        LineFormat::Steps => steps(first_line, table, &mut lines),
        LineFormat::Ranges => ranges(first_line, table, &mut lines),
        LineFormat::Locations => locations(first_line, table, &mut lines),
    }
    lines.starts
}

struct Lines {
    starts: Vec<(u32, u32)>,
}

impl Lines {
    fn add(&mut self, start: u32, line: Option<i64>) {
        let line = line.filter(|line| (1..LINE_MAX).contains(line)).unwrap_or(0) as u32;
        match self.starts.last_mut() {
            Some(last) if last.0 == start => last.1 = line,
            Some(last) if last.1 == line => {}
            _ => self.starts.push((start, line)),
        }
    }
}

/// Each pair moves on by bytes, then by lines.
fn steps(first_line: u32, table: &[u8], lines: &mut Lines) {
    let (mut start, mut line) = (0u32, i64::from(first_line));
    lines.add(start, Some(line));
    for [bytes, step] in table.as_chunks::<2>().0 {
        start = start.saturating_add(u32::from(*bytes));
        line += i64::from(*step as i8);
        lines.add(start, Some(line));
    }
}

/// Each pair is a range of bytes and its line from the one before.
fn ranges(first_line: u32, table: &[u8], lines: &mut Lines) {
    let (mut start, mut line) = (0u32, i64::from(first_line));
    for [bytes, step] in table.as_chunks::<2>().0 {
        let step = *step as i8;
        line += if step == NO_LINE { 0 } else { i64::from(step) };
        if *bytes > 0 {
            lines.add(start, (step != NO_LINE).then_some(line));
        }
        start = start.saturating_add(u32::from(*bytes));
    }
}

/// Each entry is a kind, a number of instructions, and as many bytes as the kind needs, all below [`ENTRY`].
fn locations(first_line: u32, table: &[u8], lines: &mut Lines) {
    let (mut start, mut line) = (0u32, i64::from(first_line));
    let mut rest = table;
    while let Some((head, after)) = rest.split_first() {
        let end = after.iter().position(|byte| byte & ENTRY != 0).unwrap_or(after.len());
        let (body, next) = after.split_at(end);
        rest = next;
        if head & ENTRY == 0 {
            continue;
        }
        let step = match head >> 3 & 15 {
            0..=9 => Some(0),
            kind @ 10..=12 => Some(i64::from(kind) - 10),
            13 | 14 => Some(signed(body)),
            _ => None,
        };
        line = line.saturating_add(step.unwrap_or(0));
        lines.add(start, step.map(|_known| line));
        start = start.saturating_add((u32::from(head & 7) + 1) * UNIT_BYTES);
    }
}

/// Six bits a byte, lowest first, the seventh says that more follow; of the number the lowest bit is the sign.
fn signed(bytes: &[u8]) -> i64 {
    const MORE: u8 = 0x40;
    const BYTES_MAX: usize = 6;
    let mut number = 0u64;
    for (index, byte) in bytes.iter().take(BYTES_MAX).enumerate() {
        number |= u64::from(byte & (MORE - 1)) << (6 * index);
        if byte & MORE == 0 {
            break;
        }
    }
    let size = (number >> 1) as i64;
    if number & 1 == 0 { size } else { -size }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn steps_of_3_6_are_followed() {
        // A step back (3.6 has them), and one of more than 255 bytes, which is split.
        let table = [0, 1, 8, 2, 4, 0xff, 255, 0, 45, 7];
        let lines = decode(LineFormat::Steps, 10, &table);
        assert_eq!(lines, [(0, 11), (8, 13), (12, 12), (312, 19)]);
    }

    #[test]
    fn ranges_of_3_10_may_have_no_line() {
        // f's own table of `def f():\n  for i in x:\n    g(i)`: lines 1, none, lines further on, and a leap without a range.
        let table = [4, 1, 2, 0x80, 8, 1, 0, 100, 6, 27];
        let lines = decode(LineFormat::Ranges, 10, &table);
        assert_eq!(lines, [(0, 11), (4, 0), (6, 12), (14, 139)]);
    }

    #[test]
    fn locations_of_3_11_are_of_five_kinds() {
        let short = [ENTRY | 2 << 3 | 1, 0x31];
        let one_line = [ENTRY | 11 << 3, 4, 9];
        let no_column = [ENTRY | 13 << 3 | 7, 0x05];
        let long = [ENTRY | 14 << 3, 0x48, 0x03, 0, 1, 2];
        let none = [ENTRY | 15 << 3 | 2];
        let table = [&short[..], &one_line, &no_column, &none, &long].concat();
        let lines = decode(LineFormat::Locations, 10, &table);
        // Steps: 0, +1, -2, none, +100.
        assert_eq!(lines, [(0, 10), (4, 11), (6, 9), (22, 0), (28, 109)]);
    }

    #[test]
    fn lines_that_cannot_be_are_none() {
        assert_eq!(decode(LineFormat::Steps, 1, &[2, 0x80]), [(0, 1), (2, 0)]);
        assert_eq!(decode(LineFormat::Steps, 0, &[]), [(0, 0)]);
        assert_eq!(decode(LineFormat::Locations, 5, &[]), []);
    }

    proptest! {
        #[test]
        fn any_table_gives_rising_starts(table: Vec<u8>, first_line: u32) {
            for format in [LineFormat::Steps, LineFormat::Ranges, LineFormat::Locations] {
                let lines = decode(format, first_line, &table);
                prop_assert!(lines.is_sorted_by(|one, next| one.0 < next.0));
                prop_assert!(lines.len() <= table.len() + 1);
            }
        }
    }
}
