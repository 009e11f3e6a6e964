//! Tables of real executables say what the DWARF reader itself says, place by place.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test ends at the first thing that is not as it should be"
)]

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use abi::{
    CFA_DEREF, CFA_PLT, CFA_REGISTER, CFA_SIGNAL, CFA_STOP, FP_AT_CFA, FP_AT_FP, FP_SAME, RA_BELOW_CFA, Rule,
};
use gimli::{
    BaseAddresses, CfaRule, CieOrFde, EhFrame, EndianSlice, EvaluationResult, Expression, LittleEndian,
    Location, Register, RegisterRule, UnwindContext, UnwindExpression, UnwindSection, UnwindTableRow, Value,
};
use object::elf::{FileHeader64, PF_X, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};

use table::Table;

mod table;

const LE: object::LittleEndian = object::LittleEndian;

const RBP: Register = Register(6);
const RA: Register = Register(16);
/// Looked up in one file.
const PLACES_MAX: usize = 300_000;

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// What registers and memory hold in an imagined frame, so that expressions have values.
fn register(number: u16) -> u64 {
    0x7fff_0000_0000 + u64::from(number) * 0x1_0000
}

fn word(address: u64) -> u64 {
    address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16 & !7
}

/// The frame address by the rule, at an address of code.
fn frame_address(rule: Rule, pc: u64) -> Option<u64> {
    let base = register(rule.register());
    match rule.cfa() {
        CFA_REGISTER => Some(base.wrapping_add_signed(rule.cfa_offset.into())),
        CFA_DEREF => {
            let (offset, add) = rule.deref();
            Some(word(base.wrapping_add_signed(offset)).wrapping_add_signed(add))
        }
        CFA_PLT => Some(register(7) + 8 + if pc & 15 >= 11 { 8 } else { 0 }),
        // The interrupted stack pointer in the ucontext.
        CFA_SIGNAL => Some(word(register(7).wrapping_add_signed(i64::from(rule.cfa_offset) + 160))),
        _ => None,
    }
}

fn evaluated(expression: Expression<Slice<'_>>, encoding: gimli::Encoding, pc: u64) -> u64 {
    let mut evaluation = expression.evaluation(encoding);
    let mut result = evaluation.evaluate().unwrap();
    loop {
        result = match result {
            EvaluationResult::Complete => break,
            EvaluationResult::RequiresRegister { register: number, .. } => {
                let value = if number == RA { pc } else { register(number.0) };
                evaluation.resume_with_register(Value::Generic(value)).unwrap()
            }
            EvaluationResult::RequiresMemory { address, .. } => {
                evaluation.resume_with_memory(Value::Generic(word(address))).unwrap()
            }
            other => panic!("{other:?}"),
        };
    }
    match evaluation.as_result() {
        [piece] => match piece.location {
            Location::Address { address } => address,
            ref other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// What was compared in a file.
#[derive(Debug, Default)]
struct Seen {
    places: usize,
    expressions: usize,
    signals: usize,
    stops: usize,
    unsupported: usize,
}

/// Compares a file's table with its `.eh_frame` at the ends of every row of every function.
fn compare(path: &Path) -> Seen {
    let table = Table::of(path);
    let data = std::fs::read(path).unwrap();
    let header = FileHeader64::<object::LittleEndian>::parse(&*data).unwrap();
    let segments: Vec<_> = header
        .program_headers(LE, &*data)
        .unwrap()
        .iter()
        .filter(|segment| segment.p_type(LE) == PT_LOAD && segment.p_flags(LE) & PF_X != 0)
        .map(|segment| (segment.p_vaddr(LE), segment.p_offset(LE), segment.p_filesz(LE)))
        .collect();
    let offset_of = |address: u64| {
        let mut found =
            segments.iter().filter(|segment| (segment.0..segment.0 + segment.2).contains(&address));
        found.next().map(|segment| (address - segment.0 + segment.1) as u32)
    };
    let sections = header.sections(LE, &*data).unwrap();
    let (_, section) = sections.section_by_name(LE, b".eh_frame").expect(".eh_frame");
    let bases = BaseAddresses::default().set_eh_frame(section.sh_addr(LE));
    let frames = EhFrame::new(section.data(LE, &*data).unwrap(), LittleEndian);

    let (mut seen, mut context) = (Seen::default(), UnwindContext::new());
    let mut entries = frames.entries(&bases);
    while let Some(entry) = entries.next().unwrap() {
        let CieOrFde::Fde(entry) = entry else { continue };
        let entry = entry.parse(EhFrame::cie_from_offset).unwrap();
        let mut edges = Vec::new();
        let mut rows = entry.rows(&frames, &bases, &mut context).unwrap();
        while let Some(row) = rows.next_row().unwrap() {
            if row.start_address() < row.end_address() {
                edges.extend([row.start_address(), row.end_address() - 1]);
            }
        }
        for pc in edges {
            let (Some(offset), true) = (offset_of(pc), seen.places < PLACES_MAX) else { continue };
            let row = entry.unwind_info_for_address(&frames, &bases, &mut context, pc).unwrap();
            let rule = table.find(offset).unwrap_or_else(|| panic!("{}: no row at {pc:#x}", path.display()));
            let place = Place { pc, context: format!("{}: {pc:#x}: {row:?} is {rule:?}", path.display()) };
            let is_signal = entry.is_signal_trampoline();
            place.compare(row, rule, is_signal, &mut seen, |expression| {
                evaluated(expression.get(&frames).unwrap(), entry.cie().encoding(), pc)
            });
        }
    }
    seen
}

/// A place in code, and what to say when it differs.
struct Place {
    pc: u64,
    context: String,
}

impl Place {
    /// Compares the row of the DWARF reader with the rule; `value` is that of an expression.
    fn compare(
        &self,
        row: &UnwindTableRow<usize>,
        rule: Rule,
        is_signal: bool,
        seen: &mut Seen,
        value: impl Fn(&UnwindExpression<usize>) -> u64,
    ) {
        let Self { pc, context } = self;
        seen.places += 1;
        let ra = row.register(RA);
        if ra == Some(RegisterRule::Undefined) {
            assert_eq!(rule.cfa(), CFA_STOP, "{context}");
            seen.stops += 1;
            return;
        }
        if ra != Some(RegisterRule::Offset(-8))
            && !(is_signal && matches!(ra, Some(RegisterRule::Expression(_))))
        {
            // longjmp: the return address is in a register by then.
            assert_eq!(rule, Rule::UNSUPPORTED, "{context}");
            seen.unsupported += 1;
            return;
        }
        let cfa = match row.cfa() {
            CfaRule::RegisterAndOffset { register: number, offset } => {
                assert_eq!(rule.cfa(), CFA_REGISTER, "{context}");
                register(number.0).wrapping_add_signed(*offset)
            }
            CfaRule::Expression(cfa) => {
                seen.expressions += 1;
                value(cfa)
            }
        };
        assert_eq!(frame_address(rule, *pc), Some(cfa), "{context}");
        if rule.cfa() == CFA_SIGNAL {
            seen.signals += 1;
            let Some(RegisterRule::Expression(ra)) = &ra else { panic!("{context}") };
            assert_eq!(value(ra), register(7).wrapping_add_signed(i64::from(rule.cfa_offset) + 168));
            return;
        }
        assert_eq!(rule.ra(), RA_BELOW_CFA, "{context}");
        let words = i64::from(rule.fp_offset_words) * 8;
        match row.register(RBP) {
            None | Some(RegisterRule::SameValue) => assert_eq!(rule.fp(), FP_SAME, "{context}"),
            Some(RegisterRule::Offset(offset)) => {
                assert_eq!((rule.fp(), words), (FP_AT_CFA, offset), "{context}")
            }
            Some(RegisterRule::Expression(saved)) => {
                assert_eq!(rule.fp(), FP_AT_FP, "{context}");
                assert_eq!(register(6).wrapping_add_signed(words), value(&saved), "{context}");
            }
            Some(other) => panic!("{other:?} {context}"),
        }
    }
}

fn libc_path() -> std::path::PathBuf {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps.lines().find(|line| line.contains("/libc.so.6")).expect("libc");
    line[line.find('/').unwrap()..].into()
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_table_of_libc_agrees_with_its_eh_frame() {
    let seen = compare(&libc_path());
    assert!(seen.places > 20_000 && seen.expressions > 0, "{seen:?}");
    assert!(seen.signals > 0 && seen.stops > 0, "{seen:?}");
    assert!(seen.unsupported < 30, "{seen:?}");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_tables_of_this_test_and_of_a_shell_agree_with_their_eh_frame() {
    for path in ["/proc/self/exe", "/bin/bash", "/bin/sh"] {
        let seen = compare(Path::new(path));
        assert!(seen.places > 1000 && seen.stops > 0, "{path}: {seen:?}");
        assert_eq!(seen.unsupported, 0, "{path}: {seen:?}");
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_table_of_the_vdso_agrees_with_its_eh_frame() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let Some(line) = maps.lines().find(|line| line.ends_with("[vdso]")) else { return };
    let (start, rest) = line.split_once('-').unwrap();
    let range = u64::from_str_radix(start, 16).unwrap()
        ..u64::from_str_radix(rest.split(' ').next().unwrap(), 16).unwrap();
    let mut image = vec![0; (range.end - range.start) as usize];
    let memory = File::open("/proc/self/mem").unwrap();
    std::os::unix::fs::FileExt::read_exact_at(&memory, &mut image, range.start).unwrap();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&image).unwrap();
    let seen = compare(file.path());
    assert!(seen.places > 10, "{seen:?}");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_static_program_agrees_with_its_eh_frame() {
    let dir = tempfile::tempdir().unwrap();
    let (source, program) = (dir.path().join("main.c"), dir.path().join("main"));
    std::fs::write(&source, "int main(void) { return 0; }").unwrap();
    let built = Command::new("cc").arg("-static").arg("-o").arg(&program).arg(&source).status();
    assert!(built.expect("a C compiler").success(), "static linking needs libc.a");
    let seen = compare(&program);
    assert!(seen.places > 5000 && seen.signals > 0, "{seen:?}");
}

#[test]
fn the_table_of_libc_takes_little_more_than_four_bytes_a_row() {
    let rows = tables::read(&File::open(libc_path()).unwrap()).unwrap();
    let bytes = tables::needed(&rows) * abi::PAGE_BYTES;
    let per_row = bytes as f64 / rows.rows.len() as f64;
    assert!(per_row <= 4.3, "{bytes} bytes for {} rows are {per_row}", rows.rows.len());
}
