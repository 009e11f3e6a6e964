//! Names of programs that this machine's compilers make, and of files that only pretend to be programs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "test helpers")]

use std::ffi::CString;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use symbolizer::{Config, Executable, Frame, Query, Reason, Resolved, Resolver, Symbolizer, sigbus, vdso};
use tempfile::TempDir;

/// Where the programs below are linked: their virtual addresses are this plus the file offset.
const BASE: u64 = 0x40_0000;

const C_SOURCE: &str = "\
#include <stdio.h>
volatile int sink;
static inline __attribute__((always_inline)) void innermost(int n) {
    sink += n * 3;
}
static inline __attribute__((always_inline)) void middle(int n) {
    innermost(n + 1);
}
__attribute__((noinline)) void outer(int n) {
    for (int i = 0; i < n; i++)
        middle(i);
}
int main(int argc, char **argv) { (void)argv; outer(argc); return sink; }
";

const CPP_SOURCE: &str = "\
namespace shop {
template <typename T> struct Basket { __attribute__((noipa)) int total(T first, int count); };
volatile int sink;
template <typename T> int Basket<T>::total(T first, int count) { sink += (int)first; return count + sink; }
}
static __attribute__((noipa)) int helper(int n) { return n + shop::sink; }
int main(int argc, char **) { return shop::Basket<long>().total(argc, 2) + helper(argc); }
";

/// A program in its own directory.
struct Program {
    path: PathBuf,
    /// Address and size of a symbol, from `nm` before anything is stripped.
    symbols: String,
    directory: TempDir,
}

fn tool(name: &str) -> Option<Command> {
    let there = Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success());
    if !there {
        println!("skipped: no {name}");
    }
    there.then(|| Command::new(name))
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn compile(compiler: &str, source: &str, flags: &[&str]) -> Option<Program> {
    let (mut compiler, mut nm) = (tool(compiler)?, tool("nm")?);
    let directory = tempfile::tempdir().unwrap();
    let (source_path, path) = (directory.path().join("program.cc"), directory.path().join("program"));
    let source_path = if source == C_SOURCE { source_path.with_extension("c") } else { source_path };
    fs::write(&source_path, source).unwrap();
    run(compiler
        .args(["-no-pie", "-O2"])
        .arg(format!("-Wl,-Ttext-segment={BASE:#x}"))
        .args(flags)
        .arg("-o")
        .args([&path, &source_path]));
    let output = nm.args(["-S", "--defined-only"]).arg(&path).output().unwrap();
    Some(Program { path, symbols: String::from_utf8(output.stdout).unwrap(), directory })
}

impl Program {
    /// File offsets of the code of a function, by the end of its mangled name.
    fn offsets(&self, name: &str) -> std::ops::Range<u64> {
        let line = self.symbols.lines().find(|line| line.ends_with(name)).expect(name);
        let mut numbers = line.split(' ').map(|field| u64::from_str_radix(field, 16).unwrap_or(0));
        let (address, size) = (numbers.next().unwrap(), numbers.next().unwrap());
        assert!(size > 0, "{line}");
        address - BASE..address - BASE + size
    }

    fn executable(&self) -> Arc<Executable> {
        executable(File::open(&self.path).unwrap())
    }
}

fn executable(file: File) -> Arc<Executable> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    Arc::new(Executable {
        id,
        file,
        path: "/app/program".into(),
        build_id: Vec::new(),
        symbol_bytes: 0,
        debug_bytes: 0,
    })
}

fn resolver() -> Resolver {
    Resolver::new(&Config::default())
}

fn resolve_in(resolver: &mut Resolver, executable: &Arc<Executable>, offset: u64) -> Resolved {
    let query = Query::User { executable: Arc::clone(executable), file_offset: offset };
    resolver.resolve(&[query]).remove(0)
}

fn resolve(executable: &Arc<Executable>, offset: u64) -> Resolved {
    resolve_in(&mut resolver(), executable, offset)
}

fn names(resolved: &Resolved) -> Vec<&str> {
    resolved.as_ref().unwrap().iter().map(|frame| &*frame.name).collect()
}

fn place(frame: &Frame) -> (&str, u32) {
    (frame.file.as_deref().unwrap().rsplit('/').next().unwrap(), frame.line)
}

/// The frames of the first address of `outer` that lies in the calls inlined there.
fn inlined(program: &Program, resolver: &mut Resolver) -> Arc<[Frame]> {
    let executable = program.executable();
    let queries: Vec<Query> = program
        .offsets(" outer")
        .map(|file_offset| Query::User { executable: Arc::clone(&executable), file_offset })
        .collect();
    let resolved = resolver.resolve(&queries);
    assert!(resolved.iter().all(|answer| names(answer).last() == Some(&"outer")));
    resolved.into_iter().flatten().find(|frames| frames.len() == 3).expect("an inlined call")
}

fn check_inlined(frames: &[Frame]) {
    let found: Vec<_> = frames.iter().map(|frame| (&*frame.name, place(frame))).collect();
    assert_eq!(
        found,
        [("innermost", ("program.c", 4)), ("middle", ("program.c", 7)), ("outer", ("program.c", 11))]
    );
}

#[test]
fn inlined_calls_come_innermost_first_each_with_its_own_line() {
    let Some(program) = compile("gcc", C_SOURCE, &["-g"]) else { return };
    check_inlined(&inlined(&program, &mut resolver()));
}

#[test]
fn compressed_debug_information_is_used() {
    let Some(program) = compile("gcc", C_SOURCE, &["-g", "-gz=zlib"]) else { return };
    check_inlined(&inlined(&program, &mut resolver()));
    let config = Config { inflated_bytes_max: 1, ..Config::default() };
    let mut resolver = Resolver::new(&config);
    let offset = program.offsets(" outer").start;
    let resolved = resolve_in(&mut resolver, &program.executable(), offset).unwrap();
    assert_eq!(*resolved, [Frame::named("outer")]);
    assert_eq!(resolver.stats().debug_info_skipped, 1);
}

#[test]
fn a_compressed_section_that_lies_about_its_size_costs_only_the_debug_information() {
    let Some(program) = compile("gcc", C_SOURCE, &["-g", "-gz=zlib"]) else { return };
    let mut bytes = fs::read(&program.path).unwrap();
    // Elf64_Chdr: ELFCOMPRESS_ZLIB, reserved, size, alignment, then the zlib stream's own first byte.
    let headers: Vec<usize> = bytes
        .windows(25)
        .enumerate()
        .filter(|(_, window)| window.starts_with(&[1, 0, 0, 0, 0, 0, 0, 0]) && window[24] == 0x78)
        .map(|(at, _)| at)
        .collect();
    assert!(!headers.is_empty());
    for claimed in [1u64 << 20, 1 << 62, 0] {
        for at in &headers {
            bytes[at + 8..at + 16].copy_from_slice(&claimed.to_le_bytes());
        }
        let path = program.directory.path().join("lies");
        fs::write(&path, &bytes).unwrap();
        let resolved = resolve(&executable(File::open(path).unwrap()), program.offsets(" outer").start);
        assert_eq!(*resolved.unwrap(), [Frame::named("outer")], "claimed {claimed}");
    }
}

#[test]
fn limits_cost_the_lines_first_and_then_the_names() {
    let Some(program) = compile("gcc", C_SOURCE, &["-g"]) else { return };
    let offset = program.offsets(" outer").start;
    let no_debug = Config { debug_bytes_max: 1, ..Config::default() };
    let resolved = resolve_in(&mut Resolver::new(&no_debug), &program.executable(), offset);
    assert_eq!(*resolved.unwrap(), [Frame::named("outer")]);
    let no_symbols = Config { symbol_bytes_max: 1, ..Config::default() };
    let mut resolver = Resolver::new(&no_symbols);
    assert_eq!(resolve_in(&mut resolver, &program.executable(), offset), Err(Reason::TooLarge));
    assert_eq!(resolver.stats().unresolved[Reason::TooLarge.index()], 1);
    let mut known = Arc::try_unwrap(program.executable()).unwrap();
    known.symbol_bytes = u64::MAX;
    assert_eq!(resolve(&Arc::new(known), offset), Err(Reason::TooLarge));
}

#[test]
fn a_stripped_program_keeps_what_it_exports() {
    let Some(program) = compile("gcc", C_SOURCE, &["-rdynamic"]) else { return };
    let Some(mut strip) = tool("strip") else { return };
    run(strip.arg(&program.path));
    assert_eq!(names(&resolve(&program.executable(), program.offsets(" outer").start + 3)), ["outer"]);
    let Some(silent) = compile("gcc", C_SOURCE, &["-s"]) else { return };
    let start = program.offsets(" outer").start;
    assert_eq!(resolve(&silent.executable(), start), Err(Reason::NoSymbol));
}

#[test]
fn symbols_packed_into_gnu_debugdata_are_found() {
    let Some(program) = compile("gcc", C_SOURCE, &[]) else { return };
    let (Some(mut objcopy), Some(mut xz), Some(mut strip)) = (tool("objcopy"), tool("xz"), tool("strip"))
    else {
        return;
    };
    let mini = program.directory.path().join("mini");
    run(objcopy.arg("--only-keep-debug").args([&program.path, &mini]));
    run(xz.arg(&mini));
    run(strip.arg(&program.path));
    let section = format!(".gnu_debugdata={}", mini.with_extension("xz").display());
    run(Command::new("objcopy").args(["--add-section", &section]).arg(&program.path));
    let offset = program.offsets(" outer").start;
    assert_eq!(names(&resolve(&program.executable(), offset)), ["outer"]);
    let config = Config { symbol_bytes_max: 2500, ..Config::default() };
    let limited = resolve_in(&mut Resolver::new(&config), &program.executable(), offset);
    assert_eq!(limited, Err(Reason::TooLarge), "unpacked size counts");
}

#[test]
fn a_deleted_program_still_has_names() {
    let Some(program) = compile("gcc", C_SOURCE, &["-g"]) else { return };
    let executable = program.executable();
    let offset = program.offsets(" main").start;
    drop(fs::remove_file(&program.path));
    assert!(!program.path.exists());
    assert_eq!(names(&resolve(&executable, offset)), ["main"]);
}

#[test]
fn cpp_names_are_demangled_with_and_without_debug_information() {
    for flags in [&["-g"][..], &[]] {
        let Some(program) = compile("g++", CPP_SOURCE, flags) else { return };
        let offset = program.offsets("5totalEli").start;
        let resolved = resolve(&program.executable(), offset);
        let frames = resolved.as_ref().unwrap();
        assert_eq!(&*frames.last().unwrap().name, "shop::Basket<long>::total(long, int)");
        assert_eq!(frames[0].file.is_some(), !flags.is_empty());
        let resolved = resolve(&program.executable(), program.offsets("6helperi").start);
        assert_eq!(names(&resolved), ["helper(int)"], "its debug information holds only `helper`");
    }
}

#[test]
fn a_debug_link_is_never_followed() {
    let Some(program) = compile("gcc", C_SOURCE, &["-g"]) else { return };
    let Some(mut objcopy) = tool("objcopy") else { return };
    let link = program.directory.path().join("program.debug");
    run(objcopy.arg("--only-keep-debug").args([&program.path, &link]));
    run(Command::new("objcopy").arg(format!("--add-gnu-debuglink={}", link.display())).arg(&program.path));
    fs::remove_file(&link).unwrap();
    let fifo = CString::new(link.to_str().unwrap()).unwrap();
    // SAFETY: a NUL-terminated path.
    assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
    // On its own thread: opening the fifo would hang for good.
    let symbolizer = Symbolizer::spawn(Config::default()).unwrap();
    let file_offset = program.offsets(" outer").start;
    symbolizer.submit(1, vec![Query::User { executable: program.executable(), file_offset }]).unwrap();
    let answers = symbolizer.completed(Duration::from_secs(30));
    if answers.is_empty() {
        // Dropping it would wait for the fifo too.
        std::mem::forget(symbolizer);
        panic!("the debug link was followed");
    }
    assert_eq!(**answers[0].1[0].as_ref().unwrap(), [Frame::named("outer")]);
}

/// Where an address of this process comes from: the mapped file and the offset in it.
fn own_mapping(address: u64) -> (File, u64) {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    for line in maps.lines() {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (start, end) = fields[0].split_once('-').unwrap();
        let hex = |digits| u64::from_str_radix(digits, 16).unwrap();
        if (hex(start)..hex(end)).contains(&address) {
            return (File::open(fields[5]).unwrap(), address - hex(start) + hex(fields[2]));
        }
    }
    panic!("{address:#x} is not mapped");
}

#[inline(never)]
fn known_function(n: u64) -> u64 {
    std::hint::black_box(n) + u64::from(line!())
}

#[test]
fn this_processs_own_functions_are_found_through_its_mappings() {
    let address = known_function as fn(u64) -> u64 as usize as u64;
    let (file, offset) = own_mapping(address);
    let resolved = resolve(&executable(file), offset);
    let frame = resolved.as_ref().unwrap().last().unwrap();
    assert_eq!(&*frame.name, "native::known_function", "no hash, no mangling");
    let (file, line) = place(frame);
    assert_eq!(file, "native.rs");
    let known = known_function(0) as u32;
    assert!((known - 2..=known).contains(&line), "line {line}");

    let (file, offset) = own_mapping(libc::getenv as *const () as u64);
    let resolved = resolve(&executable(file), offset);
    assert!(names(&resolved)[0].contains("getenv"), "{resolved:?}");
}

#[test]
fn the_vdso_has_names() {
    // SAFETY: NUL-terminated names; the handle is of an object that is never unloaded.
    let function = unsafe {
        let handle = libc::dlopen(c"linux-vdso.so.1".as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD);
        if handle.is_null() {
            return println!("skipped: the C library does not show the vdso");
        }
        libc::dlsym(handle, c"__vdso_clock_gettime".as_ptr())
    } as u64;
    if function == 0 {
        return println!("skipped: no __vdso_clock_gettime on this machine");
    }
    // SAFETY: takes no pointer.
    let start = unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) };
    let executable = executable(vdso().unwrap());
    let resolved = resolve(&executable, function - start);
    assert!(names(&resolved)[0].ends_with("clock_gettime"), "{resolved:?}");
}

#[test]
fn one_call_answers_every_kind_of_query_in_its_order() {
    let Some(program) = compile("gcc", C_SOURCE, &[]) else { return };
    let kallsyms = fs::read_to_string("/proc/kallsyms").unwrap();
    let schedule = kallsyms.lines().find(|line| line.ends_with(" T schedule")).unwrap();
    let address = u64::from_str_radix(schedule.split(' ').next().unwrap(), 16).unwrap();
    let executable = program.executable();
    let user =
        |name| Query::User { executable: Arc::clone(&executable), file_offset: program.offsets(name).start };
    let queries = [
        user(" main"),
        Query::Kernel { address },
        Query::Jit { pid: u32::MAX, address: 1 },
        user(" outer"),
        Query::User { executable: Arc::clone(&executable), file_offset: u64::MAX },
    ];
    let mut resolver = resolver();
    let resolved = resolver.resolve(&queries);
    assert_eq!(names(&resolved[0]), ["main"]);
    if address == 0 {
        assert_eq!(resolved[1], Err(Reason::KallsymsHidden));
    } else {
        assert_eq!(names(&resolved[1]), ["schedule"]);
    }
    assert_eq!(resolved[2], Err(Reason::ProcessGone));
    assert_eq!(names(&resolved[3]), ["outer"]);
    assert_eq!(resolved[4], Err(Reason::NoSymbol));
    let stats = resolver.stats();
    assert_eq!(stats.resolved + stats.unresolved.iter().sum::<u64>(), 5);
    assert_eq!(stats.elf_opened, 1, "one opening for all of a file's addresses");
}

#[test]
fn a_jit_compiled_function_is_found_in_a_live_process() {
    let pid = std::process::id();
    let path = format!("/tmp/perf-{pid}.map");
    fs::write(&path, "7f0000001000 100 LazyCompile:*render app.js:10\n").unwrap();
    let resolved = resolver().resolve(&[Query::Jit { pid, address: 0x7f00_0000_1010 }]).remove(0);
    fs::remove_file(&path).unwrap();
    assert_eq!(names(&resolved), ["LazyCompile:*render app.js:10"]);
}

#[test]
fn opened_files_are_let_go_when_idle_or_too_many() {
    let Some(program) = compile("gcc", C_SOURCE, &["-g"]) else { return };
    let mapped = || fs::read_to_string("/proc/self/maps").unwrap().contains(program.path.to_str().unwrap());
    let offset = program.offsets(" outer").start;
    let config = Config { open_executables_max: 1, cache_idle_ms: 0, ..Config::default() };
    let mut resolver = Resolver::new(&config);
    let (first, second) = (program.executable(), executable(File::open("/proc/self/exe").unwrap()));
    assert!(resolve_in(&mut resolver, &first, offset).is_ok());
    assert!(mapped());
    drop(resolve_in(&mut resolver, &second, offset));
    assert!(!mapped(), "the second file takes the place of the first");
    assert!(resolve_in(&mut resolver, &first, offset).is_ok());
    resolver.evict_idle();
    assert!(!mapped());
    assert_eq!((resolver.stats().elf_opened, resolver.stats().elf_released), (3, 3));
    let (open, path) = (fs::read_dir("/proc/self/fd").unwrap(), program.path.clone());
    let held = open.filter(|entry| fs::read_link(entry.as_ref().unwrap().path()).is_ok_and(|to| to == path));
    assert_eq!(held.count(), 1, "only the executable itself stays open");
}

#[test]
fn debug_information_is_let_go_after_many_answers() {
    let Some(program) = compile("gcc", C_SOURCE, &["-g"]) else { return };
    let executable = program.executable();
    let file_offset = program.offsets(" outer").start;
    let queries: Vec<Query> =
        (0..2001).map(|_| Query::User { executable: Arc::clone(&executable), file_offset }).collect();
    let mut resolver = resolver();
    let answers = resolver.resolve(&queries);
    assert!(answers.iter().all(|answer| answer == &answers[0] && answer.is_ok()));
    assert_eq!((resolver.stats().elf_opened, resolver.stats().elf_released), (2, 1));
}

#[test]
fn files_that_are_no_programs_get_an_honest_reason() {
    let sparse = tempfile::tempfile().unwrap();
    sparse.write_all_at(b"\x7fELF\x02\x01\x01", 0).unwrap();
    sparse.write_all_at(&2u16.to_le_bytes(), 16).unwrap();
    sparse.set_len(1 << 30).unwrap();
    assert_eq!(resolve(&executable(sparse), 0x1000), Err(Reason::NoSymbol), "a header and nothing else");
    let empty = tempfile::tempfile().unwrap();
    assert_eq!(resolve(&executable(empty), 0), Err(Reason::NotElf));
    let mut text = tempfile::tempfile().unwrap();
    text.write_all(&b"#!/bin/sh\n".repeat(100)).unwrap();
    assert_eq!(resolve(&executable(text), 0), Err(Reason::NotElf));
    assert_eq!(resolve(&executable(File::open("/dev/zero").unwrap()), 0), Err(Reason::NotElf));
    assert_eq!(resolve(&executable(File::open("/proc/self").unwrap()), 0), Err(Reason::NotElf));
}

#[test]
fn a_program_cut_short_anywhere_never_hangs_or_ends_the_process() {
    let Some(program) = compile("gcc", C_SOURCE, &["-g"]) else { return };
    let whole = fs::read(&program.path).unwrap();
    let offset = program.offsets(" outer").start;
    let mut resolver = resolver();
    for parts in 0..32 {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&whole[..whole.len() * parts / 32]).unwrap();
        let answer = resolve_in(&mut resolver, &executable(file), offset);
        // The headers that name the sections are at the end of the file.
        assert!(matches!(answer, Err(Reason::NotElf | Reason::Unreadable)), "{parts}/32: {answer:?}");
    }
}

#[test]
fn a_file_truncated_while_it_is_read_costs_an_answer_and_not_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shrinking");
    let deadline = Instant::now() + Duration::from_secs(60);
    let before = sigbus::survived();
    let symbolizer = Symbolizer::spawn(Config::default()).unwrap();
    while sigbus::survived() == before {
        assert!(Instant::now() < deadline, "no read ever met the missing pages");
        fs::copy("/proc/self/exe", &path).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let executable = executable(file.try_clone().unwrap());
        let address = known_function as fn(u64) -> u64 as usize as u64;
        let query = Query::User { executable, file_offset: own_mapping(address).1 };
        symbolizer.submit(7, vec![query]).unwrap();
        let mapped = || fs::read_to_string("/proc/self/maps").unwrap().contains("shrinking");
        while !mapped() && Instant::now() < deadline {
            std::hint::spin_loop();
        }
        file.set_len(4096).unwrap();
        let answers = symbolizer.completed(Duration::from_secs(30));
        assert_eq!((answers.len(), answers[0].0, answers[0].1.len()), (1, 7, 1));
    }
}

type BytesAndOffset = (Vec<u8>, u64);

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_damaged_program_always_gets_an_answer(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..60),
        compressed in any::<bool>(),
    ) {
        static PROGRAMS: LazyLock<Vec<Option<BytesAndOffset>>> = LazyLock::new(|| {
            [&["-g"][..], &["-g", "-gz=zlib"]]
                .map(|flags| {
                    let program = compile("gcc", C_SOURCE, flags)?;
                    Some((fs::read(&program.path).unwrap(), program.offsets(" outer").start))
                })
                .into()
        });
        let Some((mut bytes, offset)) = PROGRAMS[usize::from(compressed)].clone() else { return Ok(()) };
        // Half of the changes go where the headers and section tables are.
        let tail = bytes.len() * 3 / 5;
        for (index, value, in_tail) in changes {
            let at = if in_tail { tail + index.index(bytes.len() - tail) } else { index.index(bytes.len()) };
            bytes[at] = value;
        }
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let executable = executable(file);
        let queries: Vec<Query> = [0, 64, offset, offset + 9, bytes.len() as u64, u64::MAX]
            .map(|file_offset| Query::User { executable: Arc::clone(&executable), file_offset })
            .into();
        let answers = resolver().resolve(&queries);
        prop_assert_eq!(answers.len(), queries.len());
        for frames in answers.into_iter().flatten() {
            prop_assert!(!frames.is_empty() && frames.iter().all(|frame| !frame.name.is_empty()));
        }
    }

    #[test]
    fn random_bytes_after_the_magic_always_get_an_answer(tail in proptest::collection::vec(any::<u8>(), 0..4096)) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0").unwrap();
        file.write_all(&tail).unwrap();
        prop_assert!(resolve(&executable(file), 0x100).is_err());
    }
}

#[test]
fn a_full_queue_gives_the_job_back_at_once_and_dropping_never_waits_for_the_caller() {
    let config = Config { queue_jobs_max: 1, job_addresses_max: 4, ..Config::default() };
    let symbolizer = Symbolizer::spawn(config).unwrap();
    let query = || vec![Query::Jit { pid: u32::MAX, address: 1 }];
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut accepted = 0;
    // One answer waits, one job waits for its place there, one is in the queue.
    let refused = loop {
        match symbolizer.submit(accepted, query()) {
            Ok(()) => accepted += 1,
            Err(full) => break full,
        }
        assert!(Instant::now() < deadline && accepted < 100);
    };
    assert_eq!(refused.queries.len(), 1);
    let too_large = (0..5).flat_map(|_| query()).collect();
    assert_eq!(symbolizer.submit(0, too_large).unwrap_err().queries.len(), 5);
    assert_eq!(symbolizer.metrics().queue_full, 2);
    let mut tokens = Vec::new();
    while tokens.len() < accepted as usize && Instant::now() < deadline {
        tokens.extend(symbolizer.completed(Duration::from_millis(100)).into_iter().map(|(token, _)| token));
    }
    assert_eq!(tokens, (0..accepted).collect::<Vec<_>>(), "in order, none lost");
    assert_eq!(symbolizer.metrics().unresolved[Reason::ProcessGone.index()], accepted);
    assert!(symbolizer.completed(Duration::ZERO).is_empty());
    for token in 0..100 {
        drop(symbolizer.submit(token, query()));
    }
    drop(symbolizer);
}

#[test]
fn rust_programs_have_their_names_and_inlined_lines() {
    let Some(mut rustc) = tool("rustc") else { return };
    let directory = tempfile::tempdir().unwrap();
    let (source, path) = (directory.path().join("hello.rs"), directory.path().join("hello"));
    fs::write(
        &source,
        "mod shop {\n    #[inline(always)]\n    pub fn inner(n: u64) -> u64 {\n        std::hint::black_box(n) + 1\n    }\n    #[inline(never)]\n    pub fn outer(n: u64) -> u64 {\n        inner(n) * 3\n    }\n}\nfn main() {\n    std::process::exit((shop::outer(std::process::id() as u64) & 1) as i32);\n}\n",
    )
    .unwrap();
    run(rustc.args(["-g", "-O", "-o"]).args([&path, &source]));
    let Some(mut nm) = tool("nm") else { return };
    let output = nm.args(["-S", "--defined-only"]).arg(&path).output().unwrap();
    let symbols = String::from_utf8(output.stdout).unwrap();
    let line = symbols.lines().find(|line| line.contains("4shop5outer")).expect("shop::outer");
    let number = |n| u64::from_str_radix(line.split(' ').nth(n).unwrap(), 16).unwrap();
    let executable = executable(File::open(&path).unwrap());
    // Linked as position independent: the code's segment is mapped where `readelf` says.
    let delta = text_delta(&path);
    let queries: Vec<Query> = (number(0)..number(0) + number(1))
        .map(|address| Query::User { executable: Arc::clone(&executable), file_offset: address - delta })
        .collect();
    let answers = resolver().resolve(&queries);
    let inlined = answers.iter().flatten().find(|frames| frames.len() > 1).expect("an inlined call");
    let found: Vec<_> = inlined.iter().rev().take(2).map(|frame| (&*frame.name, place(frame))).collect();
    assert_eq!(found, [("hello::shop::outer", ("hello.rs", 8)), ("hello::shop::inner", ("hello.rs", 4))]);
}

/// Virtual address minus file offset of the executable segment, by `readelf`.
fn text_delta(path: &Path) -> u64 {
    let output = Command::new("readelf").arg("-lW").arg(path).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let load = text.lines().find(|line| line.contains("LOAD") && line.contains("R E")).unwrap();
    let field = |n| {
        let digits = load.split_ascii_whitespace().nth(n).unwrap();
        u64::from_str_radix(digits.trim_start_matches("0x"), 16).unwrap()
    };
    field(2) - field(1)
}
