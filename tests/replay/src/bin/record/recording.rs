//! What is recorded: programs, how they are built, and the calls that they make.

use replay::Machine;

/// One case to be recorded.
#[derive(Debug)]
pub(crate) struct Recording {
    pub(crate) name: &'static str,
    pub(crate) machine: Machine,
    /// `gcc`, `g++`, `musl-gcc`, `aarch64-linux-gnu-gcc`, `rustc` or `go`.
    pub(crate) compiler: &'static str,
    /// Files of `tests/programs`.
    pub(crate) sources: &'static [&'static str],
    pub(crate) flags: &'static [&'static str],
    /// Leaf first; see [`replay::chain_breach`].
    pub(crate) chain: &'static [&'static str],
    /// Whether a thread that is not the main one is sampled.
    pub(crate) of_thread: bool,
    /// CPU time before the first look, milliseconds: the program is in its loop then.
    pub(crate) warm_up_ms: u64,
    pub(crate) samples_max: usize,
    pub(crate) incomplete_max: usize,
    pub(crate) incomplete_why: &'static str,
}

const WORK: &str = "work_a|work_b|work_c";
const CHAIN: &[&str] = &["spin", WORK, "dispatch", "main"];

const BASE: Recording = Recording {
    name: "",
    machine: Machine::X86_64,
    compiler: "gcc",
    sources: &["plain.c"],
    flags: &["-O2"],
    chain: CHAIN,
    of_thread: false,
    warm_up_ms: 100,
    samples_max: 128,
    incomplete_max: 0,
    incomplete_why: "",
};
const ARM: Recording = Recording {
    machine: Machine::Aarch64,
    compiler: "aarch64-linux-gnu-gcc",
    // Much of it goes into translating the program's start.
    warm_up_ms: 1500,
    samples_max: 64,
    ..BASE
};

const THREADS: &[&str] = &["spin", WORK, "dispatch", "thread_main"];
const DEEP: &[&str] = &["spin", WORK, "descend+", "dispatch", "main"];
const ALLOCA: &[&str] = &["spin", "realigned", "variable", WORK, "dispatch", "main"];
const RUST: &[&str] =
    &["chain::spin", "chain::work_a|chain::work_b|chain::work_c", "chain::dispatch", "chain::main"];
const GO_SWITCHING: &[&str] =
    &["runtime.systemstack.abi0?", "main.switching", "main.main|runtime.mcall|runtime.morestack.abi0"];
const GO: &[&str] = &[
    "main.spin",
    "main.workA|main.workB|main.workC",
    "main.dispatch",
    "main.main|runtime.mcall|runtime.morestack.abi0",
];

pub(crate) const RECORDINGS: &[Recording] = &[
    Recording { name: "plain", ..BASE },
    Recording { name: "plain-O0", flags: &["-O0"], ..BASE },
    Recording { name: "plain-static", flags: &["-O2", "-static-pie"], ..BASE },
    Recording {
        name: "frame-pointers-alone",
        flags: &["-O1", "-fno-omit-frame-pointer", "-fno-asynchronous-unwind-tables"],
        // Without a row an interrupted prologue or epilogue is a guess, and so may miss its caller.
        chain: &["spin?", "work_a|work_b|work_c?", "dispatch?", "main?"],
        ..BASE
    },
    Recording {
        name: "musl",
        compiler: "musl-gcc",
        flags: &["-O2", "-static"],
        incomplete_max: 32,
        incomplete_why: "musl's own functions, but for what calls main, have neither rows nor frame pointers",
        ..BASE
    },
    Recording { name: "deep", sources: &["deep.c"], chain: DEEP, samples_max: 48, ..BASE },
    Recording { name: "alloca", sources: &["alloca.c"], chain: ALLOCA, ..BASE },
    Recording {
        name: "altstack",
        sources: &["altstack.c"],
        chain: &["spin", WORK, "on_signal", "raised|interrupted", "dispatch?", "main"],
        ..BASE
    },
    Recording {
        name: "lazyplt",
        sources: &["lazyplt.c"],
        flags: &["-O2", "-fno-builtin", "-Wl,-z,lazy"],
        chain: &["calls", WORK, "dispatch", "main"],
        ..BASE
    },
    Recording {
        name: "tailcall",
        sources: &["tailcall.c", "tailcall_far.c"],
        flags: &["-O3", "-flto"],
        chain: &["spin", "burn?", WORK, "dispatch?", "main"],
        ..BASE
    },
    Recording {
        name: "threads",
        sources: &["threads.c"],
        flags: &["-O2", "-pthread"],
        chain: THREADS,
        of_thread: true,
        samples_max: 48,
        ..BASE
    },
    Recording {
        name: "throwing",
        compiler: "g++",
        sources: &["throwing.cpp"],
        chain: &["spin", "toss+?", "attempt", WORK, "dispatch", "main"],
        ..BASE
    },
    Recording {
        name: "rust",
        compiler: "rustc",
        sources: &["chain.rs"],
        flags: &["-O"],
        chain: RUST,
        ..BASE
    },
    Recording { name: "go", compiler: "go", sources: &["chain.go"], flags: &[], chain: GO, ..BASE },
    Recording {
        name: "go-switching",
        compiler: "go",
        sources: &["switching.go"],
        flags: &[],
        chain: GO_SWITCHING,
        samples_max: 96,
        ..BASE
    },
    Recording { name: "aarch64-plain", ..ARM },
    Recording { name: "aarch64-plain-O0", flags: &["-O0"], ..ARM },
    Recording { name: "aarch64-no-frame-pointer", flags: &["-O2", "-fomit-frame-pointer"], ..ARM },
    Recording { name: "aarch64-signed", flags: &["-O2", "-mbranch-protection=standard"], ..ARM },
    Recording { name: "aarch64-deep", sources: &["deep.c"], chain: DEEP, samples_max: 24, ..ARM },
    Recording { name: "aarch64-alloca", sources: &["alloca.c"], chain: ALLOCA, ..ARM },
    Recording {
        name: "aarch64-go",
        compiler: "go",
        sources: &["chain.go"],
        flags: &[],
        chain: GO,
        samples_max: 48,
        ..ARM
    },
];
