//! What is known of a program before it is profiled: how it is built, its legal chains, where its time goes.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::chains::Chains;
use crate::names;
use crate::pprof::Frame;
use crate::program::Program;
use crate::symbols::{self, Symbols};

/// Parts of chains that many programs share, by the word that stands for them.
const FRAGMENTS: [(&str, &str); 8] = [
    // From the first instruction to main, with a C library of its own file; its inner functions have no names.
    ("$start", "_start > @libc*"),
    // The same in one file with the C library.
    ("$static", "_start > __libc_start_%*"),
    // musl is built without unwind rows: what calls main is where its stack can be known to end.
    ("$musl", "_start? > _start_c? > __libc_start_main? > libc_start_main_stage2?"),
    // Rust's own main and what it calls; functions that were put into others stand without their module.
    (
        "$std",
        "std::%|core::%|alloc::%|<%|__rust_%|lang_start%|call_once<%|catch_unwind<%|do_call<%|{closure%|{impl%*",
    ),
    // Go's runtime and what is in every program, with functions in assembler that are of no package.
    (
        "$go",
        "runtime.%|internal/%|syscall.%|indexbytebody|indexbody|countbody|memeqbody|cmpbody|aeshashbody|gogo|callRet|\
         gosave_systemstack_switch|gcWriteBarrier%*",
    ),
    // A call into libraries, through a stub or not.
    ("$libs", "@plt|@lib*"),
    // Reading a clock, also where the C library is in the same file.
    ("$clock", "@plt|@lib|clock_gettime|__clock_gettime|__GI___clock_gettime|__vdso_clock_gettime*"),
    // What runs before main and after it.
    (
        "$outside",
        "_init|_fini|frame_dummy|register_tm_clones|deregister_tm_clones|__do_global_dtors_aux? > @lib*",
    ),
];
/// The three works of every program and their shares of the time, in percent.
pub const SHARES: [(&str, f64); 3] = [("work_a", 60.0), ("work_b", 30.0), ("work_c", 10.0)];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compiler {
    Gcc,
    Gxx,
    Musl,
    Rustc,
    Go,
}

/// Where and how it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Host,
    /// Its file is deleted as soon as it runs.
    Deleted,
    /// From a file system that only its own mount namespace has, in the cgroup of a container.
    Container,
}

/// One program. Its process has its name, of 15 characters at most.
#[derive(Debug, Clone, Copy)]
pub struct Declaration {
    pub name: &'static str,
    pub compiler: Compiler,
    /// Files of `tests/programs`.
    pub sources: &'static [&'static str],
    pub flags: &'static [&'static str],
    /// Shared libraries beside it: name, source, flags.
    pub libraries: &'static [(&'static str, &'static str, &'static [&'static str])],
    /// The names of files whose frames are its own, besides its own name.
    pub own_files: &'static [&'static str],
    /// Arguments of `strip`; empty for a file that keeps its symbols.
    pub strip: &'static [&'static str],
    pub place: Place,
    /// Its own functions, whose names may stand at their places only.
    pub functions: &'static [&'static str],
    /// The functions of each of the three works.
    pub works: [&'static [&'static str]; 3],
    /// Legal chains, with [`FRAGMENTS`]; see [`crate::chains`].
    pub chains: &'static [&'static str],
    /// Names of which no two stand in one stack unless they are of the same group, with `%` for any end.
    pub apart: &'static [&'static [&'static str]],
}

/// A program that is ready to run.
#[derive(Debug)]
pub struct Built {
    pub declaration: Declaration,
    pub program: Program,
    pub chains: Chains,
    /// Of its file as it was linked, before anything was stripped.
    pub symbols: Symbols,
    /// Of the libraries beside it, by build id.
    pub library_symbols: HashMap<String, Symbols>,
}

impl Built {
    /// Those of the file that a frame of its own is in.
    pub fn symbols_of(&self, frame: &Frame) -> Option<&Symbols> {
        let is_program = names::file_name(&frame.mapping) == self.declaration.name;
        self.library_symbols.get(&frame.build_id).or(is_program.then_some(&self.symbols))
    }
}

impl Declaration {
    /// The chains as they are parsed.
    ///
    /// # Errors
    /// One of them is none.
    pub fn parsed_chains(&self) -> Result<Chains> {
        let full: Vec<String> = self.chains.iter().map(|chain| expand(chain)).collect();
        Chains::parse(&full.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Names of the files whose frames are its own.
    pub fn own(&self) -> Vec<&'static str> {
        std::iter::once(self.name).chain(self.own_files.iter().copied()).collect()
    }

    /// Whether its file has the names of its functions when it runs.
    pub fn is_named(&self) -> bool {
        let exports = self.flags.contains(&"-rdynamic");
        (self.strip.is_empty() || exports) && !self.flags.iter().any(|flag| leaves_names_out(flag))
    }

    /// Compiles and links it and what belongs to it.
    ///
    /// # Errors
    /// A compiler is missing or fails.
    pub fn build(self) -> Result<Built> {
        let program = self.compile(self.flags)?;
        let mut library_symbols = HashMap::new();
        for (name, source, flags) in self.libraries {
            let arguments = [&["-O2", "-shared", "-fPIC", "-Wl,--build-id"], *flags].concat();
            let path = program.dir().join(name);
            Program::compile_to(&path, source, &arguments)?;
            let id = symbols::build_id_of(&path)?.with_context(|| format!("{name} has no build id"))?;
            library_symbols.insert(id, Symbols::read(&path)?);
        }
        let symbols = self.symbols(&program)?;
        if !self.strip.is_empty() {
            program.change("strip", self.strip)?;
        }
        Ok(Built { declaration: self, program, chains: self.parsed_chains()?, symbols, library_symbols })
    }

    fn compile(&self, flags: &[&str]) -> Result<Program> {
        Program::build(self.name, |path, sources| {
            let sources = self.sources.iter().map(|source| sources.join(source));
            let mut command = Command::new(match self.compiler {
                Compiler::Gcc => "gcc",
                Compiler::Gxx => "g++",
                Compiler::Musl => "musl-gcc",
                Compiler::Rustc => "rustc",
                Compiler::Go => return go(path, flags, sources),
            });
            if self.compiler != Compiler::Rustc {
                command.arg(format!("-DPROGRAM=\"{}\"", self.name));
            }
            // Libraries stand after what uses them.
            command.arg("-o").arg(path).args(sources).args(flags);
            command
        })
    }

    /// Those that the linker left out are taken from a program that differs in nothing else.
    fn symbols(&self, program: &Program) -> Result<Symbols> {
        let left_out: Vec<&str> = self.flags.iter().copied().filter(|flag| leaves_names_out(flag)).collect();
        if left_out.is_empty() {
            return Symbols::read(program.path());
        }
        let kept: Vec<&str> = self.flags.iter().copied().filter(|flag| !left_out.contains(flag)).collect();
        let twin = self.compile(&kept)?;
        let same = symbols::text_of(twin.path())? == symbols::text_of(program.path())?;
        ensure!(same, "{}: the code differs when symbols are kept", self.name);
        Symbols::read(twin.path())
    }
}

/// Told to the linker of Go.
fn leaves_names_out(flag: &str) -> bool {
    flag.contains("-s -w")
}

/// Of the standard library alone, without looking for a module.
fn go(path: &Path, flags: &[&str], sources: impl Iterator<Item = std::path::PathBuf>) -> Command {
    let mut command = Command::new(crate::host::find_program("go").unwrap_or_else(|| "go".into()));
    command.arg("build").args(flags).arg("-o").arg(path).args(sources);
    for (name, value) in
        [("CGO_ENABLED", "0"), ("GO111MODULE", "off"), ("GOTOOLCHAIN", "local"), ("GOFLAGS", "-trimpath")]
    {
        command.env(name, value);
    }
    command
}

fn expand(chain: &str) -> String {
    FRAGMENTS.iter().fold(chain.to_owned(), |text, (word, chain)| text.replace(word, chain))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::declared::DECLARED;

    #[test]
    fn every_declaration_is_consistent() -> Result<()> {
        for declaration in DECLARED {
            let chains = declaration.parsed_chains()?;
            let Declaration { name, functions, works, .. } = declaration;
            assert!(name.len() <= 15, "{name} is cut by the kernel");
            assert_eq!(DECLARED.iter().filter(|it| it.name == *name).count(), 1, "{name}");
            for function in *functions {
                assert!(chains.have(function), "{name}: {function} is in no chain");
            }
            for work in works.iter().copied().flatten() {
                assert!(functions.contains(work), "{name}: {work} is no function of its own");
            }
            for source in declaration.sources {
                assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join("programs").join(source).is_file());
            }
        }
        Ok(())
    }

    #[test]
    fn words_for_parts_of_chains_are_replaced() {
        assert_eq!(expand("$start > main > $libs"), "_start > @libc* > main > @plt|@lib*");
    }
}
