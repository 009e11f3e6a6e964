//! The table of what is needed from the distribution, why, and what each distribution calls it.

use std::path::Path;

use super::Purpose;
use super::distribution::Distribution;
use crate::workspace;

/// How to see that a thing is there where dpkg cannot be asked.
#[derive(Debug, Clone, Copy)]
pub(super) enum Probe {
    /// A program on PATH; any of these names.
    Program(&'static [&'static str]),
    /// A file; any of these paths.
    File(&'static [&'static str]),
}

#[derive(Debug)]
pub(super) struct Need {
    pub(super) debian: &'static str,
    pub(super) fedora: &'static str,
    pub(super) arch: &'static str,
    pub(super) suse: &'static str,
    pub(super) why: &'static str,
    pub(super) probe: Probe,
    pub(super) purpose: Purpose,
}

pub(super) const NEEDS: [Need; 12] = [
    Need {
        debian: "gcc",
        fedora: "gcc",
        arch: "gcc",
        suse: "gcc",
        why: "links every binary and compiles libbpf and the test programs",
        probe: Probe::Program(&["gcc", "cc"]),
        purpose: Purpose::Run,
    },
    Need {
        debian: "libc6-dev",
        fedora: "glibc-devel",
        arch: "glibc",
        suse: "glibc-devel",
        why: "C headers for libbpf",
        probe: Probe::File(&["/usr/include/stdio.h"]),
        purpose: Purpose::Run,
    },
    Need {
        debian: "make",
        fedora: "make",
        arch: "make",
        suse: "make",
        why: "builds the libbpf that libbpf-sys brings with it",
        probe: Probe::Program(&["make"]),
        purpose: Purpose::Run,
    },
    Need {
        debian: "libelf-dev",
        fedora: "elfutils-libelf-devel",
        arch: "libelf",
        suse: "libelf-devel",
        why: "libbpf reads ELF objects with it",
        probe: Probe::File(&["/usr/include/libelf.h"]),
        purpose: Purpose::Run,
    },
    Need {
        debian: "zlib1g-dev",
        fedora: "zlib-devel",
        arch: "zlib",
        suse: "zlib-devel",
        why: "libelf reads compressed sections with it",
        probe: Probe::File(&["/usr/include/zlib.h"]),
        purpose: Purpose::Run,
    },
    Need {
        debian: "pkg-config",
        fedora: "pkgconf-pkg-config",
        arch: "pkgconf",
        suse: "pkg-config",
        why: "finds libelf and zlib",
        probe: Probe::Program(&["pkg-config", "pkgconf"]),
        purpose: Purpose::Run,
    },
    Need {
        debian: "g++",
        fedora: "gcc-c++",
        arch: "gcc",
        suse: "gcc-c++",
        why: "compiles the test program that throws exceptions",
        probe: Probe::Program(&["g++"]),
        purpose: Purpose::Kernel,
    },
    Need {
        debian: "musl-tools",
        fedora: "musl-gcc",
        arch: "musl",
        suse: "musl-devel",
        why: "links the test program that has its own C library inside",
        probe: Probe::Program(&["musl-gcc"]),
        purpose: Purpose::Kernel,
    },
    Need {
        debian: "chromium",
        fedora: "chromium",
        arch: "chromium",
        suse: "chromium",
        why: "opens the page in the browser tests",
        probe: Probe::Program(&["chromium", "chromium-browser", "google-chrome"]),
        purpose: Purpose::Browser,
    },
    Need {
        debian: "chromium-driver",
        fedora: "chromedriver",
        arch: "chromium",
        suse: "chromedriver",
        why: "steers the browser in the browser tests",
        probe: Probe::Program(&["chromedriver"]),
        purpose: Purpose::Browser,
    },
    Need {
        debian: "qemu-system-x86",
        fedora: "qemu-system-x86",
        arch: "qemu-system-x86",
        suse: "qemu-x86",
        why: "boots other kernels",
        probe: Probe::Program(&["qemu-system-x86_64"]),
        purpose: Purpose::Vm,
    },
    Need {
        debian: "binutils",
        fedora: "binutils",
        arch: "binutils",
        suse: "binutils",
        why: "strips what goes into the guests' memory",
        probe: Probe::Program(&["strip"]),
        purpose: Purpose::Vm,
    },
];

impl Need {
    pub(super) fn name(&self, distribution: &Distribution) -> &'static str {
        match distribution {
            Distribution::Debian | Distribution::Other(_) => self.debian,
            Distribution::Fedora => self.fedora,
            Distribution::Arch => self.arch,
            Distribution::Suse => self.suse,
        }
    }

    pub(super) fn is_there(&self) -> bool {
        match self.probe {
            Probe::Program(names) => names.iter().any(|name| workspace::find_program(name).is_some()),
            Probe::File(paths) => paths.iter().any(|path| Path::new(path).exists()),
        }
    }
}
