//! Names of programs that this machine's compilers make, and of files that only pretend to be programs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::wildcard_imports,
    reason = "test helpers"
)]

mod limits;
mod names;

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
