//! Files made by hand: what is odd, cut or wrong in them costs rows at most.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test ends at the first thing that is not as it should be"
)]

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;

use abi::{
    CFA_DEREF, CFA_PLT, CFA_REGISTER, CFA_SIGNAL, CFA_UNSUPPORTED, FP_AT_CFA, FP_AT_FP, FP_SAME,
    FP_UNDEFINED, RA_ABOVE_FP, RA_AT_CFA, RA_BELOW_CFA, RA_IN_LR, RULE_NONE, Rule,
};
use tables::{Dropped, Error, Rows};

use elf::{Image, cie, fde, frames};

mod elf;

fn read(image: &Image) -> Rows {
    tables::read(&image.file()).unwrap()
}

/// Rows with their rules; `None` where nothing is known.
fn rows(rows: &Rows) -> Vec<(u32, Option<Rule>)> {
    rows.rows.iter().map(|&(offset, rule)| (offset, rows.rules.get(usize::from(rule)).copied())).collect()
}

fn sp(offset: i32) -> Rule {
    Rule::of(CFA_REGISTER, 7, FP_SAME, RA_BELOW_CFA, 0, offset)
}

/// The rules that the instructions of one function of 64 bytes give, without those of its CIE.
fn rules(image: Image, cie: &[u8], instructions: &[u8]) -> Vec<Option<Rule>> {
    let content = frames(elf::EH_FRAME, cie, &[(elf::TEXT, 64, instructions)]);
    let read = read(&image.with_eh_frame(&content));
    assert_eq!(read.dropped, Dropped::default());
    rows(&read).into_iter().map(|row| row.1).collect()
}

fn x86_rules(instructions: &[u8]) -> Vec<Option<Rule>> {
    rules(Image::x86_64(), &cie("zR", 16, &[0x0c, 7, 8, 0x90, 1]), instructions)
}

fn arm_rules(instructions: &[u8]) -> Vec<Option<Rule>> {
    rules(Image::aarch64(), &cie("zR", 30, &[0x0c, 31, 0]), instructions)
}

#[test]
fn what_is_no_64_bit_elf_of_a_known_machine_is_an_error() {
    let mut file = tempfile::tempfile().unwrap();
    assert!(matches!(tables::read(&file), Err(Error::NotElf64)));
    file.write_all(b"#!/bin/sh\nexec true\n").unwrap();
    assert!(matches!(tables::read(&file), Err(Error::NotElf64)));
    let elf = Image::x86_64().bytes();
    for (at, value) in [(4, 1), (5, 2)] {
        let mut other = elf.clone();
        other[at] = value;
        file.write_all_at(&other, 0).unwrap();
        assert!(matches!(tables::read(&file), Err(Error::NotElf64)), "byte {at}");
    }
    let mut riscv = elf.clone();
    riscv[18] = 243;
    file.write_all_at(&riscv, 0).unwrap();
    assert!(matches!(tables::read(&file), Err(Error::Machine(243))));
    let mut cut = tempfile::tempfile().unwrap();
    cut.write_all(&elf[..64]).unwrap();
    assert!(matches!(tables::read(&cut), Err(Error::Headers(_))));
}

#[test]
fn a_file_without_unwind_information_has_no_rows() {
    let read = read(&Image::x86_64());
    assert_eq!(read, Rows::default());
    assert_eq!(tables::needed(&read), 0);
}

#[test]
fn rows_are_file_offsets_and_nothing_is_known_between_functions() {
    let text = elf::TEXT;
    let content = frames(
        elf::EH_FRAME,
        &cie("zR", 16, &[0x0c, 7, 8, 0x90, 1]),
        // push; and the second function lies 16 bytes behind the first.
        &[(text + 64, 32, &[0x41, 0x0e, 16]), (text, 48, &[0x44, 0x0e, 16, 0x44, 0x0e, 8])],
    );
    let read = read(&Image::x86_64().with_eh_frame(&content));
    let at = |offset: u64| (text + offset - elf::TEXT_BIAS) as u32;
    assert_eq!(
        rows(&read),
        [
            (at(0), Some(sp(8))),
            (at(4), Some(sp(16))),
            (at(8), Some(sp(8))),
            (at(48), None),
            (at(64), Some(sp(8))),
            (at(65), Some(sp(16))),
            (at(96), None),
        ]
    );
}

#[test]
fn padding_before_an_aligned_function_takes_no_row() {
    let text = elf::TEXT;
    let content = frames(
        elf::EH_FRAME,
        &cie("zR", 16, &[0x0c, 7, 8, 0x90, 1]),
        &[(text, 35, &[]), (text + 48, 16, &[]), (text + 72, 8, &[])],
    );
    let read = read(&Image::x86_64().with_eh_frame(&content));
    let offsets: Vec<_> = rows(&read).iter().map(|row| u64::from(row.0) + elf::TEXT_BIAS - text).collect();
    // The third function is not aligned: what is before it may be a function.
    assert_eq!(offsets, [0, 64, 72, 80]);
}

#[test]
fn of_two_entries_of_one_place_the_later_is_taken_and_an_overlap_is_cut() {
    let text = elf::TEXT;
    let content = frames(
        elf::EH_FRAME,
        &cie("zR", 16, &[0x0c, 7, 8, 0x90, 1]),
        // The second one's own row of byte 40 is behind the cut.
        &[(text, 64, &[0x0e, 24]), (text, 64, &[0x0e, 32, 0x68, 0x0e, 48]), (text + 32, 16, &[0x0e, 40])],
    );
    let found = rows(&read(&Image::x86_64().with_eh_frame(&content)));
    let at = |offset: u64| (text + offset - elf::TEXT_BIAS) as u32;
    assert_eq!(found, [(at(0), Some(sp(32))), (at(32), Some(sp(40))), (at(48), None)]);
}

#[test]
fn the_section_is_found_without_section_headers() {
    let content =
        frames(elf::EH_FRAME, &cie("zR", 16, &[0x0c, 7, 8, 0x90, 1]), &[(elf::TEXT, 64, &[0x41, 0x0e, 16])]);
    let with_headers = read(&Image::x86_64().with_eh_frame(&content));
    assert_eq!(with_headers.rows.len(), 3);
    let stripped = Image::x86_64().with_eh_frame(&content).without_sections();
    assert_eq!(read(&stripped), with_headers);
}

#[test]
fn debug_frame_fills_what_eh_frame_leaves_open() {
    let text = elf::TEXT;
    let cie_of = |offset| cie("", 16, &[0x0c, 7, offset, 0x90, 1]);
    let debug = elf::debug_frames(&cie_of(16), &[(text, 32, &[]), (text + 64, 32, &[])]);
    let eh = frames(elf::EH_FRAME, &cie("zR", 16, &[0x0c, 7, 8, 0x90, 1]), &[(text, 32, &[])]);
    let image = Image::x86_64().with_eh_frame(&eh).with_section(".debug_frame", 0, &debug);
    let at = |offset: u64| (text + offset - elf::TEXT_BIAS) as u32;
    let expected = [(at(0), Some(sp(8))), (at(32), None), (at(64), Some(sp(16))), (at(96), None)];
    assert_eq!(rows(&read(&image)), expected);
}

#[test]
fn code_that_is_not_in_the_file_or_not_executable_is_left_out() {
    let cie = cie("zR", 16, &[0x0c, 7, 8, 0x90, 1]);
    let content = frames(
        elf::EH_FRAME,
        &cie,
        &[(elf::EH_FRAME, 8, &[]), (0, 8, &[]), (elf::TEXT + elf::TEXT_BYTES - 8, 64, &[])],
    );
    let read = read(&Image::x86_64().with_eh_frame(&content));
    assert_eq!(read.dropped.outside, 2);
    let end = (elf::TEXT + elf::TEXT_BYTES - elf::TEXT_BIAS) as u32;
    assert_eq!(rows(&read), [(end - 8, Some(sp(8))), (end, None)]);
}

#[test]
fn a_broken_entry_costs_only_its_own_rows() {
    let text = elf::TEXT;
    // 0x3f is no instruction; the third one restores what was never remembered.
    let content = frames(
        elf::EH_FRAME,
        &cie("zR", 16, &[0x0c, 7, 8, 0x90, 1]),
        &[(text, 32, &[0x44, 0x3f]), (text + 32, 32, &[0x0e, 24]), (text + 64, 32, &[0x44, 0x0b])],
    );
    let read = read(&Image::x86_64().with_eh_frame(&content));
    assert_eq!(read.dropped.entries, 2);
    let at = |offset: u64| (text + offset - elf::TEXT_BIAS) as u32;
    let expected =
        [(at(0), Some(sp(8))), (at(4), None), (at(32), Some(sp(24))), (at(64), Some(sp(8))), (at(68), None)];
    assert_eq!(rows(&read), expected);
}

#[test]
fn a_file_that_ends_early_gives_what_is_left() {
    let cie = cie("zR", 16, &[0x0c, 7, 8, 0x90, 1]);
    let functions: Vec<_> =
        (0..64).map(|index| (elf::TEXT + index * 32, 16, &[0x41, 0x0e, 16][..])).collect();
    let image = Image::x86_64().with_eh_frame(&frames(elf::EH_FRAME, &cie, &functions)).without_sections();
    let all = read(&image).rows.len();
    let bytes = image.bytes();
    let mut before = 0;
    for cut in (0..=bytes.len()).step_by(7).chain([bytes.len()]) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes[..cut]).unwrap();
        let count = tables::read(&file).map_or(0, |rows| rows.rows.len());
        assert!(count >= before, "{cut}");
        before = count;
    }
    assert_eq!(before, all);
}

#[test]
fn lengths_of_a_sparse_file_cost_no_memory() {
    let mut image = Image::x86_64().with_eh_frame(&[0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 0]);
    image.set_section_bytes(".eh_frame", 1 << 40);
    let file = image.file();
    file.set_len(1 << 41).unwrap();
    assert_eq!(tables::read(&file).unwrap().rows, []);
}

#[test]
fn frames_of_x86_64_become_their_rules() {
    let fp_frame = |words| Rule::of(CFA_REGISTER, 6, FP_AT_CFA, RA_BELOW_CFA, words, 16);
    assert_eq!(x86_rules(&[0x0d, 6, 0x0e, 16, 0x86, 2]), [Some(fp_frame(-2)), None]);
    // The frame pointer is lost, or its offset no multiple of a word.
    let lost = Rule::of(CFA_REGISTER, 7, FP_UNDEFINED, RA_BELOW_CFA, 0, 8);
    assert_eq!(x86_rules(&[0x07, 6]), [Some(lost), None]);
    // Realigned: CFA is the word at rbp - 8, rbp saved at rbp itself.
    let realigned = Rule::of(CFA_DEREF, 6, FP_AT_FP, RA_BELOW_CFA, 0, Rule::deref_offset(-8, 0).unwrap());
    assert_eq!(x86_rules(&[0x0f, 3, 0x76, 0x78, 6, 0x10, 6, 2, 0x76, 0]), [Some(realigned), None]);
    // The return address is undefined: nothing calls this.
    assert_eq!(x86_rules(&[0x07, 16]), [Some(Rule::STOP), None]);
    // It is in a register, or elsewhere.
    assert_eq!(x86_rules(&[0x09, 16, 1]), [Some(Rule::UNSUPPORTED), None]);
    assert_eq!(x86_rules(&[0x90, 2]), [Some(Rule::UNSUPPORTED), None]);
    // A frame address that is no known expression.
    assert_eq!(
        x86_rules(&[0x0f, 2, 0x76, 0]),
        [Some(Rule::of(CFA_REGISTER, 6, FP_SAME, RA_BELOW_CFA, 0, 0)), None]
    );
    assert_eq!(x86_rules(&[0x0f, 1, 0x30])[0].unwrap().cfa(), CFA_UNSUPPORTED);
}

#[test]
fn stubs_are_one_rule_or_two_rows_each_by_where_they_push() {
    let expression = |pushed_from: u8| {
        [0x0f, 11, 0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x30 + pushed_from, 0x2a, 0x33, 0x24, 0x22]
    };
    let plt = Rule::of(CFA_PLT, 7, FP_SAME, RA_BELOW_CFA, 0, 8);
    assert_eq!(x86_rules(&expression(11)), [Some(plt), None]);
    let pairs = [Some(sp(8)), Some(sp(16))];
    let expected: Vec<_> = pairs.iter().cycle().take(8).copied().chain([None]).collect();
    assert_eq!(x86_rules(&expression(9)), expected);
}

#[test]
fn only_the_frame_that_the_kernel_makes_is_a_signal_frame() {
    // CFA is the word at rsp + 160, the return address at rsp + 168: rsp is at the ucontext.
    let saved = |pc: u8| [0x0f, 4, 0x77, 0xa0, 1, 6, 0x10, 16, 3, 0x77, pc, 1];
    let found = rules(Image::x86_64(), &cie("zRS", 16, &[]), &saved(0xa8));
    assert_eq!(found, [Some(Rule::of(CFA_SIGNAL, 7, FP_SAME, RA_BELOW_CFA, 0, 0)), None]);
    let found = rules(Image::x86_64(), &cie("zRS", 16, &[]), &saved(0xb0));
    assert_eq!(found, [Some(Rule::UNSUPPORTED), None]);
    let found = rules(Image::x86_64(), &cie("zR", 16, &[]), &saved(0xa8));
    assert_eq!(found, [Some(Rule::UNSUPPORTED), None]);
    let found = rules(Image::aarch64(), &cie("zRS", 30, &[0x0c, 29, 0, 0x9d, 0, 0x9e, 0x7f]), &[]);
    assert_eq!(found, [Some(Rule::of(CFA_SIGNAL, 31, FP_SAME, RA_BELOW_CFA, 0, 128)), None]);
}

#[test]
fn frames_of_aarch64_become_their_rules() {
    let sp = |fp, ra, words, offset| Some(Rule::of(CFA_REGISTER, 31, fp, ra, words, offset));
    assert_eq!(arm_rules(&[]), [sp(FP_SAME, RA_IN_LR, 0, 0), None]);
    // stp x29, x30, [sp, #-32]!
    assert_eq!(arm_rules(&[0x0e, 32, 0x9d, 4, 0x9e, 3]), [sp(FP_AT_CFA, RA_ABOVE_FP, -4, 32), None]);
    // str x30, [sp, #-16]!
    assert_eq!(arm_rules(&[0x0e, 16, 0x9e, 2]), [sp(FP_SAME, RA_AT_CFA, -2, 16), None]);
    // paciasp (DW_CFA_AARCH64_negate_ra_state), then the same pair.
    assert_eq!(arm_rules(&[0x2d, 0x0e, 32, 0x9d, 4, 0x9e, 3]), [sp(FP_AT_CFA, RA_ABOVE_FP, -4, 32), None]);
    // Both are saved, but not as a pair.
    assert_eq!(arm_rules(&[0x0e, 32, 0x9d, 4, 0x9e, 2]), [Some(Rule::UNSUPPORTED), None]);
    assert_eq!(arm_rules(&[0x07, 30]), [Some(Rule::STOP), None]);
}

#[test]
fn reading_twice_gives_the_same() {
    let file = File::open("/proc/self/exe").unwrap();
    let first = tables::read(&file).unwrap();
    assert_eq!(first.rows.last().map(|row| u32::from(row.1)), Some(RULE_NONE));
    assert!(first == tables::read(&file).unwrap());
}

#[test]
fn a_cie_of_another_section_or_of_no_size_is_refused() {
    let mut content = frames(elf::EH_FRAME, &cie("zR", 16, &[0x0c, 7, 8, 0x90, 1]), &[(elf::TEXT, 64, &[])]);
    let at = content.len();
    content.extend(fde(elf::EH_FRAME + at as u64, at as u32 + 400, elf::TEXT + 64, 64, &[]));
    let read = read(&Image::x86_64().with_eh_frame(&content));
    assert_eq!(read.dropped.entries, 1);
    assert_eq!(read.rows.len(), 2);
}
