//! Verdicts on hand-made stacks.

use super::*;
use crate::declaration::{Compiler, Declaration, Place};
use crate::program::Program;

/// A program in a file of which only the names matter.
fn built() -> Built {
    let declaration = Declaration {
        name: "plain",
        compiler: Compiler::Gcc,
        sources: &["plain.c"],
        flags: &["-O2"],
        libraries: &[],
        own_files: &["liblive.so"],
        strip: &[],
        place: Place::Host,
        functions: &["main", "dispatch", "work_a", "work_b", "work_c", "spin", "one_spin", "two_spin"],
        works: [&["work_a"], &["work_b"], &["work_c"]],
        chains: &[
            "$start > main > dispatch > work_a|work_b|work_c > spin",
            "$start > main > dispatch > one_spin|two_spin > @lib*",
            "_start > $outside",
        ],
        apart: &[&["work_%"], &["one_%"], &["two_%"]],
    };
    declaration.build().unwrap()
}

/// The same program with a library beside it.
fn with_library() -> (Built, String) {
    let mut declaration = built().declaration;
    declaration.libraries = &[("libone.so", "reloaded.c", &["-DVERSION=one"])];
    let built = declaration.build().unwrap();
    let id = built.library_symbols.keys().next().unwrap().clone();
    (built, id)
}

/// Names from the root to the leaf; `name@file` in another file than the program's.
fn stack(text: &str, labels: &[(&str, &str)]) -> Stack {
    let frame = |part: &str| {
        let (name, mapping) = part.split_once('@').unwrap_or((part, "/x/plain"));
        Frame { name: name.to_owned(), mapping: mapping.to_owned(), ..Frame::default() }
    };
    Stack {
        samples: 10,
        frames: text.split_whitespace().rev().map(frame).collect(),
        labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        pid: 1,
    }
}

fn verdict(text: &str) -> Verdict {
    judge(&built(), &stack(text, &[]), &mut Libraries::default())
}

#[test]
fn a_legal_stack_is_legal_whatever_the_kernel_does_above_it() {
    assert_eq!(verdict("_start main dispatch work_a spin"), Verdict::Legal);
    assert_eq!(verdict("_start libc.so.6+0x10@/lib/libc.so.6 main dispatch"), Verdict::Legal);
    assert_eq!(verdict("_start main dispatch work_a spin asm_timer@[kernel] x@[kernel]"), Verdict::Legal);
}

#[test]
fn a_missing_frame_a_missing_root_and_a_frame_without_a_name_are_told_apart() {
    assert_eq!(verdict("_start main work_a spin"), Verdict::Transition);
    assert_eq!(verdict("dispatch work_a spin"), Verdict::Illegal);
    assert_eq!(verdict("_start main dispatch liblive.so+0x1000@/x/liblive.so spin"), Verdict::Illegal);
    assert_eq!(verdict("_start main dispatch [unknown]@[unknown]"), Verdict::Illegal);
}

#[test]
fn a_name_that_cannot_be_there_is_wrong() {
    let wrong = |text: &str| matches!(verdict(text), Verdict::WrongName(_));
    assert!(wrong("_start main dispatch work_a _init"), "of the file, but not in that chain");
    assert!(wrong("_start nonsense"), "not of the file at all");
    assert!(!wrong("_start _init"), "of the file, before main");
    assert!(wrong("_start main dispatch plain+0xfffffff"), "no function of the file is there");
    assert!(wrong("_start main dispatch spin@/other/file"), "in a file that is not the program's");
    assert!(wrong("_start main dispatch one_spin no_such@/lib/x86_64-linux-gnu/libc.so.6"));
    assert!(!wrong("_start main dispatch one_spin clock_gettime@/lib/x86_64-linux-gnu/libc.so.6"));
}

#[test]
fn names_that_cannot_stand_in_one_stack_are_wrong_together() {
    assert_eq!(
        verdict("_start main dispatch one_spin two_spin"),
        Verdict::WrongName("two_spin below one_spin".to_owned())
    );
}

#[test]
fn a_process_that_ends_needs_no_user_stack_and_any_other_does() {
    assert_eq!(verdict("do_syscall_64@[kernel] do_exit@[kernel]"), Verdict::Outside);
    assert_eq!(verdict("do_syscall_64@[kernel] ksys_read@[kernel]"), Verdict::Illegal);
}

#[test]
fn the_account_counts_what_is_complete_legal_and_where_the_time_goes() {
    let stacks = [
        stack("_start main dispatch work_a spin", &[]),
        stack("_start main dispatch work_b spin", &[]),
        stack("work_c spin", &[("incomplete", "row_missing")]),
        stack("_start main dispatch work_a nonsense", &[]),
        stack("do_exit@[kernel]", &[]),
        stack("_start plain+0x0 libc.so.6+0x10@/lib/libc.so.6", &[]),
        stack("_start libc.so.6+0x10@/lib/libc.so.6", &[]),
    ];
    let account = Account::of(&built(), stacks.iter(), &mut Libraries::default());
    assert_eq!((account.samples, account.outside, account.complete), (60, 10, 50));
    assert_eq!((account.legal, account.transitions, account.illegal, account.wrong()), (30, 0, 20, 10));
    assert_eq!(account.unnamed, 10);
    assert_eq!(account.reasons.get("row_missing"), Some(&10));
    assert_eq!(account.works, [20, 10, 10]);
    assert_eq!(account.shares(), [50.0, 25.0, 25.0]);
    assert_eq!(account.percent(account.legal), 50.0);
    assert!(account.describe().contains("nonsense"), "{}", account.describe());
}

#[test]
fn a_stack_of_a_stripped_file_is_named_by_its_offsets() -> anyhow::Result<()> {
    let mut built = built();
    let names = ["_start", "main", "dispatch", "work_a", "spin"];
    let offset = |name: &str| {
        let found =
            (0..1 << 20).find(|at| built.symbols.at(*at) == Some(crate::symbols::Place::Function(name)));
        format!("plain+{:#x}", found.unwrap() + 1)
    };
    let text: Vec<String> = names.map(offset).to_vec();
    built.program = Program::build("plain", |path, _| {
        let mut command = std::process::Command::new("touch");
        command.arg(path);
        command
    })?;
    let found = judge(&built, &stack(&text.join(" "), &[]), &mut Libraries::default());
    assert_eq!(found, Verdict::Legal);
    Ok(())
}

#[test]
fn an_offset_of_a_library_at_which_it_has_no_function_is_wrong() {
    let (built, id) = with_library();
    let judged = |offset: &str, build_id: &str| {
        let mut stack = stack(
            &format!("_start main dispatch liblive.so+{offset}@/x/liblive.so one_spin@/x/liblive.so"),
            &[],
        );
        for frame in &mut stack.frames {
            frame.build_id = build_id.to_owned();
        }
        judge(&built, &stack, &mut Libraries::default())
    };
    assert!(matches!(judged("0xffff", &id), Verdict::WrongName(_)));
    assert_eq!(judged("0xffff", "another"), Verdict::Illegal, "nothing is known of that file");
}
