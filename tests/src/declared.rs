//! The programs whose stacks and shares are known, each hard to unwind in its own way.

use crate::declaration::{Compiler, Declaration, Place};

const WORKS: [&[&str]; 3] = [&["work_a"], &["work_b"], &["work_c"]];
const FUNCTIONS: &[&str] = &["main", "dispatch", "work_a", "work_b", "work_c", "spin"];

/// The chain alone, on the host.
const PLAIN: Declaration = Declaration {
    name: "omitfp",
    compiler: Compiler::Gcc,
    sources: &["plain.c"],
    flags: &["-O2", "-fomit-frame-pointer"],
    libraries: &[],
    own_files: &[],
    strip: &[],
    place: Place::Host,
    functions: FUNCTIONS,
    works: WORKS,
    chains: &[
        "$start > main > dispatch > work_a|work_b|work_c > spin",
        "$start > main > dispatch > work_a|work_b|work_c > $clock",
        "$start > main > $libs",
        "_start > @lib* > $outside",
        "@ld+ > @lib* > $outside",
    ],
    apart: &[],
};

const STATIC_CHAINS: &[&str] = &[
    "$static > main > dispatch > work_a|work_b|work_c > spin",
    "$static > main > dispatch > work_a|work_b|work_c > $clock",
];

const GO: Declaration = Declaration {
    name: "go",
    compiler: Compiler::Go,
    sources: &["chain.go"],
    flags: &[],
    functions: &["main.main", "main.dispatch", "main.workA", "main.workB", "main.workC", "main.spin"],
    works: [&["main.workA"], &["main.workB"], &["main.workC"]],
    chains: &[
        "runtime.goexit%? > runtime.main > main.main > main.dispatch > main.workA|main.workB|main.workC > main.spin > $go",
        "runtime.goexit%? > runtime.main > main.main > main.dispatch > main.workA|main.workB|main.workC > \
         main.threadCPUNs? > $go",
        "runtime.goexit%? > runtime.main > main.main > fmt.%|os.%|strconv.%* > $go",
        "_rt0_%? > $go",
    ],
    ..PLAIN
};

pub const DECLARED: &[Declaration] = &[
    PLAIN,
    Declaration {
        name: "alloca",
        sources: &["alloca.c"],
        functions: &["main", "dispatch", "work_a", "work_b", "work_c", "variable", "realigned", "spin"],
        chains: &[
            "$start > main > dispatch > work_a|work_b|work_c > variable > realigned > spin",
            "$start > main > dispatch > work_a|work_b|work_c > variable > realigned? > $libs",
            "$start > main > dispatch > work_a|work_b|work_c > $clock",
            "$start > main > $libs",
            "_start > @lib* > $outside",
            "@ld+ > @lib* > $outside",
        ],
        ..PLAIN
    },
    Declaration {
        name: "throwing",
        compiler: Compiler::Gxx,
        sources: &["throwing.cpp"],
        functions: &["main", "dispatch", "work_a", "work_b", "work_c", "attempt", "toss", "spin"],
        chains: &[
            "$start > main > dispatch > work_a|work_b|work_c > attempt > spin",
            "$start > main > dispatch > work_a|work_b|work_c > attempt > toss* > $libs",
            "$start > main > dispatch > work_a|work_b|work_c > $clock",
            "$start > main > $libs",
            "_start > @lib* > $outside",
            "@ld+ > @lib* > $outside",
        ],
        ..PLAIN
    },
    Declaration {
        name: "rust",
        compiler: Compiler::Rustc,
        sources: &["chain.rs"],
        flags: &["-O", "--edition", "2024"],
        functions: &[
            "chain::main",
            "chain::dispatch",
            "chain::work_a",
            "chain::work_b",
            "chain::work_c",
            "chain::spin",
        ],
        works: [&["chain::work_a"], &["chain::work_b"], &["chain::work_c"]],
        chains: &[
            "$start > main > $std > chain::main > chain::dispatch > \
             chain::work_a|chain::work_b|chain::work_c > chain::spin",
            "$start > main > $std > chain::main > chain::dispatch > \
             chain::work_a|chain::work_b|chain::work_c > $clock",
            "$start > main > $std > chain::main? > \
             $std > $libs",
            "_start > @lib* > $outside",
            "@ld+ > @lib* > $outside",
        ],
        ..PLAIN
    },
    GO,
    Declaration { name: "go-stripped", flags: &["-ldflags=-s -w"], ..GO },
    Declaration {
        name: "musl",
        compiler: Compiler::Musl,
        flags: &["-O2", "-static"],
        chains: &[
            "$musl > main > dispatch > work_a|work_b|work_c > spin",
            "$musl > main > dispatch > work_a|work_b|work_c > $clock",
        ],
        ..PLAIN
    },
    Declaration { name: "static-pie", flags: &["-O2", "-static-pie"], chains: STATIC_CHAINS, ..PLAIN },
    Declaration {
        name: "altstack",
        sources: &["altstack.c"],
        functions: &[
            "main",
            "dispatch",
            "raised",
            "interrupted",
            "on_signal",
            "work_a",
            "work_b",
            "work_c",
            "spin",
        ],
        chains: &[
            "$start > main > dispatch > raised > @plt? > @libc+ > on_signal > work_a|work_b|work_c > spin",
            "$start > main > dispatch > raised > @plt? > @libc+ > on_signal > work_a|work_b|work_c > $clock",
            "$start > main > dispatch > interrupted > @plt? > @libc+ > on_signal > work_a|work_b|work_c > spin",
            "$start > main > dispatch > interrupted > @plt? > @libc+ > on_signal > work_a|work_b|work_c > $clock",
            "$start > main > dispatch > raised|interrupted > $libs",
            "$start > main > $libs",
            "_start > @lib* > $outside",
            "@ld+ > @lib* > $outside",
        ],
        ..PLAIN
    },
    Declaration {
        name: "lazyplt",
        sources: &["lazyplt.c"],
        flags: &["-O2", "-fomit-frame-pointer", "-fno-builtin", "-Wl,-z,lazy"],
        functions: &["main", "dispatch", "work_a", "work_b", "work_c", "calls"],
        chains: &[
            "$start > main > dispatch > work_a|work_b|work_c > calls > $libs",
            "$start > main > dispatch > work_a|work_b|work_c > $clock",
            "$start > main > $libs",
            "_start > @lib* > $outside",
            "@ld+ > @lib* > $outside",
        ],
        ..PLAIN
    },
    Declaration {
        name: "deep",
        sources: &["deep.c"],
        functions: &["main", "dispatch", "descend", "work_a", "work_b", "work_c", "spin"],
        chains: &[
            "$start > main > dispatch > descend{500} > work_a|work_b|work_c > spin",
            "$start > main > dispatch > descend{500} > work_a|work_b|work_c > $clock",
            "$start > main > $libs",
            "_start > @lib* > $outside",
            "@ld+ > @lib* > $outside",
        ],
        ..PLAIN
    },
    Declaration {
        name: "threads",
        sources: &["threads.c"],
        flags: &["-O2", "-fomit-frame-pointer", "-pthread"],
        functions: &["main", "thread_main", "dispatch", "work_a", "work_b", "work_c", "spin"],
        chains: &[
            "@libc+ > thread_main > dispatch > work_a|work_b|work_c > spin",
            "@libc+ > thread_main > dispatch > work_a|work_b|work_c > $clock",
            "$start > main > $libs",
            "_start > @lib* > $outside",
            "@ld+ > @lib* > $outside",
        ],
        ..PLAIN
    },
    Declaration {
        name: "reloading",
        sources: &["reloading.c"],
        flags: &["-O2", "-fomit-frame-pointer", "-ldl"],
        libraries: &[
            ("libone.so", "reloaded.c", &["-fno-toplevel-reorder", "-DVERSION=one"]),
            ("libtwo.so", "reloaded.c", &["-fno-toplevel-reorder", "-DVERSION=two", "-DOTHER_ORDER"]),
        ],
        own_files: &["liblive.so", "libone.so", "libtwo.so"],
        functions: &[
            "main",
            "dispatch",
            "visit_one",
            "visit_two",
            "one_run",
            "one_work_a",
            "one_work_b",
            "one_work_c",
            "one_spin",
            "two_run",
            "two_work_a",
            "two_work_b",
            "two_work_c",
            "two_spin",
        ],
        works: [&["one_work_a", "two_work_a"], &["one_work_b", "two_work_b"], &["one_work_c", "two_work_c"]],
        chains: &[
            "$start > main > dispatch > visit_one > one_run > one_work_a|one_work_b|one_work_c > one_spin",
            "$start > main > dispatch > visit_one > one_run > one_work_a|one_work_b|one_work_c > $clock",
            "$start > main > dispatch > visit_two > two_run > two_work_a|two_work_b|two_work_c > two_spin",
            "$start > main > dispatch > visit_two > two_run > two_work_a|two_work_b|two_work_c > $clock",
            "$start > main > dispatch > @plt|@lib* > $outside",
            "$start > main > $libs",
            "_start > @lib* > $outside",
            "@ld+ > @lib* > $outside",
        ],
        apart: &[&["visit_one", "one_%"], &["visit_two", "two_%"]],
        ..PLAIN
    },
    Declaration { name: "deleted", place: Place::Deleted, ..PLAIN },
    Declaration { name: "contained", place: Place::Container, ..PLAIN },
    Declaration { name: "stripped", strip: &["-s"], ..PLAIN },
    Declaration {
        name: "exported",
        flags: &["-O2", "-fomit-frame-pointer", "-rdynamic"],
        strip: &["-s"],
        ..PLAIN
    },
    Declaration {
        name: "tailcall",
        sources: &["tailcall.c", "tailcall_far.c"],
        flags: &["-O3", "-flto", "-fomit-frame-pointer"],
        functions: &["main", "dispatch", "hop", "skip", "work_a", "work_b", "work_c", "burn", "spin"],
        // Each jump leaves its own function out; what is small enough is put into its caller.
        chains: &[
            "$start > main > dispatch? > hop? > skip? > work_a|work_b|work_c > burn? > spin",
            "$start > main > dispatch? > hop? > skip? > work_a|work_b|work_c > $clock",
            "$start > main > $libs",
            "_start > @lib* > $outside",
            "@ld+ > @lib* > $outside",
        ],
        ..PLAIN
    },
    Declaration {
        name: "prefork",
        sources: &["prefork.c"],
        functions: &["main", "serve", "dispatch", "work_a", "work_b", "work_c", "spin"],
        chains: &[
            "$start > main > serve > dispatch > work_a|work_b|work_c > spin",
            "$start > main > serve > dispatch > work_a|work_b|work_c > $clock",
            "$start > main > $libs",
            "_start > @lib* > $outside",
            "@ld+ > @lib* > $outside",
        ],
        ..PLAIN
    },
];
