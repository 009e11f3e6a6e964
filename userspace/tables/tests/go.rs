//! Tables of Go programs say what the linker's own `.debug_frame` says: both come from one source, by different ways.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test ends at the first thing that is not as it should be"
)]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use abi::{
    CFA_FRAME_POINTER, CFA_REGISTER, CFA_SIGNAL, CFA_STOP, CFA_UNSUPPORTED, FP_AT_CFA, FP_SAME, RA_ABOVE_FP,
    RA_BELOW_CFA, RA_IN_LR, Rule,
};
use gimli::{
    BaseAddresses, CfaRule, CieOrFde, DebugFrame, LittleEndian, RegisterRule, UnwindContext, UnwindSection,
};
use object::elf::{FileHeader64, PF_X, PT_LOAD, SHT_SYMTAB};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, Sym};

use table::Table;

mod table;

const LE: object::LittleEndian = object::LittleEndian;
const PROGRAM: &str = "package main\nimport \"fmt\"\nfunc main() { fmt.Println(\"x\") }\n";

/// Builds the program; `None` where there is no Go.
fn build(dir: &Path, name: &str, options: &[&str], environment: &[(&str, &str)]) -> Option<PathBuf> {
    let program = dir.join(name);
    std::fs::write(dir.join("main.go"), PROGRAM).unwrap();
    let mut go = Command::new("go");
    go.current_dir(dir).args(["build", "-o"]).arg(&program).args(options).arg("main.go");
    go.envs([("CGO_ENABLED", "0"), ("GO111MODULE", "off"), ("GOFLAGS", "")])
        .envs(environment.iter().copied());
    match go.status() {
        Ok(status) => assert!(status.success(), "go build {options:?}"),
        Err(error) => {
            eprintln!("skipped: go: {error}");
            return None;
        }
    }
    Some(program)
}

/// Program headers of executable segments: (address, file offset, bytes).
fn code(data: &[u8]) -> Vec<(u64, u64, u64)> {
    let header = FileHeader64::<object::LittleEndian>::parse(data).unwrap();
    let segments = header.program_headers(LE, data).unwrap().iter();
    segments
        .filter(|segment| segment.p_type(LE) == PT_LOAD && segment.p_flags(LE) & PF_X != 0)
        .map(|segment| (segment.p_vaddr(LE), segment.p_offset(LE), segment.p_filesz(LE)))
        .collect()
}

/// Compares the rule of each place with the row, whose frame is at least `minimum` bytes; how many had a rule that only `.gopclntab` can give.
fn compare(
    program: &Path,
    minimum: i64,
    check: impl Fn(Rule, i64, Option<RegisterRule<usize>>, &str),
) -> usize {
    let table = Table::of(program);
    let data = std::fs::read(program).unwrap();
    let code = code(&data);
    let header = FileHeader64::<object::LittleEndian>::parse(&*data).unwrap();
    let sections = header.sections(LE, &*data).unwrap();
    let (_, section) = sections.section_by_name(LE, b".debug_frame").expect(".debug_frame");
    let frames = DebugFrame::new(section.data(LE, &*data).unwrap(), LittleEndian);
    let bases = BaseAddresses::default();
    let (mut context, mut entries) = (UnwindContext::new(), frames.entries(&bases));
    let (mut places, mut special) = (0, 0);
    while let Some(entry) = entries.next().unwrap() {
        let CieOrFde::Fde(entry) = entry else { continue };
        let entry = entry.parse(DebugFrame::cie_from_offset).unwrap();
        let ra = entry.cie().return_address_register();
        let mut rows = entry.rows(&frames, &bases, &mut context).unwrap();
        while let Some(row) = rows.next_row().unwrap() {
            if row.start_address() >= row.end_address() {
                continue;
            }
            let CfaRule::RegisterAndOffset { offset: cfa, .. } = *row.cfa() else { panic!("{row:?}") };
            for pc in [row.start_address(), row.end_address() - 1] {
                let segment =
                    code.iter().find(|segment| (segment.0..segment.0 + segment.2).contains(&pc)).unwrap();
                let offset = (pc - segment.0 + segment.1) as u32;
                let rule = table.find(offset).unwrap_or_else(|| panic!("no row at {pc:#x}: {row:?}"));
                places += 1;
                match rule.cfa() {
                    // The last byte may already be the signal trampoline's, which begins one before it.
                    CFA_STOP | CFA_FRAME_POINTER | CFA_SIGNAL => special += 1,
                    // Past the return address, or further from the frame than 16 bits of words.
                    CFA_UNSUPPORTED if !(0..1 << 18).contains(&(cfa - minimum)) => special += 1,
                    CFA_REGISTER if rule.register() == 29 => special += 1,
                    CFA_REGISTER => {
                        check(rule, cfa, row.register(ra), &format!("{pc:#x}: {row:?} is {rule:?}"))
                    }
                    _ => panic!("{pc:#x}: {row:?} is {rule:?}"),
                }
            }
        }
    }
    assert!(places > 10_000, "{places}");
    special
}

#[test]
fn x86_64_rows_agree_with_debug_frame() {
    let dir = tempfile::tempdir().unwrap();
    let environment = [("GOARCH", "amd64"), ("GOOS", "linux")];
    let Some(program) = build(dir.path(), "plain", &["-ldflags=-compressdwarf=false"], &environment) else {
        return;
    };
    let special = compare(&program, 8, |rule, cfa, _, context| {
        assert_eq!((rule.register(), i64::from(rule.cfa_offset)), (7, cfa), "{context}");
        let fp = if cfa == 8 { (FP_SAME, 0) } else { (FP_AT_CFA, -2) };
        assert_eq!((rule.fp(), rule.fp_offset_words), fp, "{context}");
        assert_eq!(rule.ra(), RA_BELOW_CFA, "{context}");
    });
    assert!((20..600).contains(&special), "{special}");
}

#[test]
fn aarch64_rows_agree_with_debug_frame() {
    let dir = tempfile::tempdir().unwrap();
    let environment = [("GOARCH", "arm64"), ("GOOS", "linux")];
    let Some(program) = build(dir.path(), "arm", &["-ldflags=-compressdwarf=false"], &environment) else {
        return;
    };
    let special = compare(&program, 0, |rule, cfa, ra, context| {
        assert_eq!((rule.register(), i64::from(rule.cfa_offset)), (31, cfa), "{context}");
        if cfa == 0 {
            assert_eq!((rule.fp(), rule.ra()), (FP_SAME, RA_IN_LR), "{context}");
        } else {
            assert_eq!((rule.fp(), rule.ra()), (FP_AT_CFA, RA_ABOVE_FP), "{context}");
            // sigtramp, which the kernel calls.
            if ra == Some(RegisterRule::Undefined) {
                return;
            }
            let saved = i64::from(rule.fp_offset_words) * 8 + 8;
            assert_eq!(ra, Some(RegisterRule::Offset(saved)), "{context}");
        }
    });
    assert!((20..600).contains(&special), "{special}");
}

#[test]
fn a_stripped_or_relocatable_program_has_the_rows_of_a_plain_one() {
    let dir = tempfile::tempdir().unwrap();
    let environment = [("GOARCH", "amd64"), ("GOOS", "linux")];
    let Some(plain) = build(dir.path(), "plain", &[], &environment) else { return };
    let rows = |path: &Path| tables::read(&File::open(path).unwrap()).unwrap();
    let plain_rows = rows(&plain);
    let stripped = build(dir.path(), "stripped", &["-ldflags=-s -w"], &environment).unwrap();
    assert_eq!(rows(&stripped).rows, plain_rows.rows);

    // Without section headers the table is found by its head and the code by the module that has the table.
    let mut data = std::fs::read(&plain).unwrap();
    data[0x28..0x30].fill(0);
    data[0x3c..0x40].fill(0);
    let bare = dir.path().join("bare");
    std::fs::write(&bare, data).unwrap();
    assert_eq!(rows(&bare).rows, plain_rows.rows);

    let pie = build(dir.path(), "pie", &["-buildmode=pie"], &environment).unwrap();
    let table = Table::of(&pie);
    let data = std::fs::read(&pie).unwrap();
    let header = FileHeader64::<object::LittleEndian>::parse(&*data).unwrap();
    // Another build mode is other code, but of the same functions.
    let count = rows(&pie).rows.len();
    assert!(count.abs_diff(plain_rows.rows.len()) * 20 < count, "{count}");
    // _rt0_amd64_linux, where the program begins.
    let (address, offset, _) = code(&data)[0];
    assert_eq!(table.find((header.e_entry.get(LE) - address + offset) as u32), Some(Rule::STOP));
}

#[test]
fn a_program_with_c_code_has_rows_of_both_sources() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("c.go"),
        "package main\n// #include <stdlib.h>\nimport \"C\"\nfunc init() { C.free(C.malloc(3)) }\n",
    )
    .unwrap();
    let environment = [("CGO_ENABLED", "1")];
    for options in [&["c.go"][..], &["-buildmode=pie", "c.go"]] {
        let Some(program) = build(dir.path(), "cgo", options, &environment) else { return };
        let data = std::fs::read(&program).unwrap();
        let header = FileHeader64::<object::LittleEndian>::parse(&*data).unwrap();
        let code = code(&data);
        let offset = |address: u64| {
            let mut segments = code.iter();
            let segment =
                segments.find(|segment| (segment.0..segment.0 + segment.2).contains(&address)).unwrap();
            (address - segment.0 + segment.1) as u32
        };
        let symbols = header.sections(LE, &*data).unwrap().symbols(LE, &*data, SHT_SYMTAB).unwrap();
        let address = |name: &str| {
            let mut found = symbols.iter().filter(|symbol| {
                let symbol = symbols.symbol_name(LE, symbol).unwrap_or_default();
                symbol.strip_suffix(b".abi0").unwrap_or(symbol) == name.as_bytes()
                    && symbol.len() != name.len()
            });
            found.next().unwrap_or_else(|| panic!("{name}")).st_value(LE)
        };
        let table = Table::of(&program);
        // _start of the C library, which .eh_frame describes.
        assert_eq!(table.find(offset(header.e_entry.get(LE))), Some(Rule::STOP), "{options:?}");
        // Functions of Go: the last return address of a goroutine, a switch to the system's stack, and what signal
        // handlers return to, each looked up as a return address is.
        assert_eq!(table.find(offset(address("runtime.goexit"))), Some(Rule::STOP), "{options:?}");
        assert_eq!(table.find(offset(address("runtime.systemstack") + 64)), Some(Rule::FRAME_POINTER));
        let signal = table.find(offset(address("runtime.sigreturn__sigaction") - 1));
        assert_eq!(signal.map(|rule| (rule.cfa(), rule.cfa_offset)), Some((CFA_SIGNAL, 0)), "{options:?}");

        // Some linkers leave words that are relocated empty.
        let sections = header.sections(LE, &*data).unwrap();
        let (_, module) = sections.section_by_name(LE, b".go.module").expect(".go.module");
        if options.len() > 1 {
            let before = tables::read(&File::open(&program).unwrap()).unwrap();
            let file = File::options().write(true).open(&program).unwrap();
            file.write_all_at(&[0; 8], module.sh_offset(LE) + 176).unwrap();
            assert!(tables::read(&File::open(&program).unwrap()).unwrap() == before);
        }
    }
}
