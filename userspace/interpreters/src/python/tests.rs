//! A library that exports what CPython 3.12 does, whole and changed. It is a seed of the fuzz targets too.

use std::fs::File;
use std::io::Write;

use super::*;

/// Behind a byte that the fuzz target takes.
const LIBRARY: &[u8] = include_bytes!("../../../../fuzz/seeds/python_elf/library");

fn recognise(content: &[u8]) -> Result<Option<Arc<dyn Data>>, Error> {
    let mut file: File = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    let elf = Elf::read(&file, &|name| Python.is_wanted(name))?;
    Python.recognise(&elf)
}

/// The library with some bytes, which it must have just once, replaced.
fn changed(from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut content = LIBRARY[1..].to_vec();
    let places: Vec<usize> = content
        .windows(from.len())
        .enumerate()
        .filter(|(_, window)| *window == from)
        .map(|(at, _)| at)
        .collect();
    assert_eq!(places.len(), 1, "{from:x?} at {places:x?}");
    content[places[0]..places[0] + to.len()].copy_from_slice(to);
    content
}

#[test]
fn an_interpreter_is_known_by_what_it_exports() {
    let data = recognise(&LIBRARY[1..]).unwrap().unwrap();
    assert_eq!(data.version(), "3.12.1");
    assert!(!data.code().evaluation.is_empty());
}

#[test]
fn a_file_that_lacks_one_of_the_names_is_none() {
    assert!(recognise(&changed(b"PyCode_Type\0", b"PyCode_Typo")).unwrap().is_none());
    assert!(recognise(&std::fs::read("/proc/self/exe").unwrap()).unwrap().is_none());
    assert!(matches!(recognise(b"#!/bin/sh\n"), Err(Error::NotElf64)));
}

#[test]
fn an_unknown_version_is_named_and_not_guessed() {
    let hex = |hex: u64| hex.to_le_bytes();
    for unknown in [0x0310_00a0, 0x0305_02f0, 0x0400_00f0] {
        let found = recognise(&changed(&hex(0x030c_01f0), &hex(unknown)));
        assert!(matches!(found, Err(Error::VersionUnknown { .. })), "{unknown:#x}: {found:?}");
    }
    // One that the file's own types contradict, and one that must tell its offsets itself.
    assert!(matches!(recognise(&changed(&hex(0x030c_01f0), &hex(0x030b_01f0))), Err(Error::Unlike { .. })));
    assert!(matches!(recognise(&changed(&hex(0x030c_01f0), &hex(0x030d_01f0))), Err(Error::Missing(_))));
}

#[test]
fn types_of_another_size_are_refused() {
    let found = recognise(&changed(&192u64.to_le_bytes(), &200u64.to_le_bytes()));
    assert!(matches!(found, Err(Error::Unlike { found: 200, known: 192, .. })), "{found:?}");
}

#[test]
fn another_machines_interpreter_is_refused() {
    let mut content = LIBRARY[1..].to_vec();
    content[18] = object::elf::EM_AARCH64 as u8;
    assert!(matches!(recognise(&content), Err(Error::Machine(object::elf::EM_AARCH64))));
}
