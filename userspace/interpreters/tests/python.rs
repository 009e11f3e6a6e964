//! Real interpreters: each thread of a program that says where it is is walked and named, with nothing else than what
//! the kernel programs have.

#![cfg(target_arch = "x86_64")]

mod support;

use std::collections::HashMap;
use std::time::Duration;

use interpreters::{Code, Function, Instance, Layout, Process, Walked};
use python::{Reason, Step, Walk};
use support::{Attached, Expected, Target, found};

/// How often the working thread is looked at.
const LOOKS: usize = 40;
const STEPS_MAX: usize = 4096;
/// Characters of a name that are kept.
const NAME_CHARACTERS_MAX: usize = 1024;
/// Functions that native code calls: a native frame of the evaluation loop begins with them.
const CALLED_FROM_C: [&str; 3] = ["key_from_c", "called_from_c", "<module>"];

#[test]
fn the_stacks_of_every_interpreter_found_are_what_the_program_says() {
    let (mut passed, mut skipped, mut failed) = (0, 0, 0);
    for interpreter in found() {
        let target = match Target::start(&interpreter) {
            Ok(target) => target,
            Err(reason) => {
                println!("skipped: {}: {reason}", interpreter.name);
                skipped += 1;
                continue;
            }
        };
        match check(&target) {
            Ok(summary) => {
                println!("ok: {}: {summary}", interpreter.name);
                passed += 1;
            }
            Err(problems) => {
                println!("FAILED: {}: {problems}", interpreter.name);
                failed += 1;
            }
        }
    }
    println!("{passed} interpreters passed, {failed} failed, {skipped} skipped");
    assert_eq!(failed, 0);
}

/// What was found right, or what is wrong.
fn check(target: &Target) -> Result<String, String> {
    let attached = target.attach().map_err(|error| error.to_string())?;
    let Attached { data, instance, .. } = &attached;
    let Layout::Python(layout) = instance.layout();
    let (mut frames, mut problems) = (0, Vec::new());
    for expected in &target.expected {
        match check_thread(target, instance.as_ref(), &layout, expected) {
            Ok(count) => frames += count,
            Err(problem) => problems.push(format!("\n  {}: {problem}", expected.shape)),
        }
    }
    if let Err(problem) = check_native_code(target, &attached) {
        problems.push(format!("\n  native code: {problem}"));
    }
    let hops = (layout.current.hops, layout.bound.hops);
    let code = data.code();
    let summary = format!(
        "{}, {} threads, {frames} frames; thread state in {hops:?} steps; loop {:x?}, {} ranges of parts",
        data.version(),
        target.expected.len(),
        code.evaluation,
        code.parts.len()
    );
    if problems.is_empty() { Ok(summary) } else { Err(format!("{summary}{}", problems.concat())) }
}

/// Whether the thread that does nothing but evaluate Python is where the file's facts say that this is done.
fn check_native_code(target: &Target, attached: &Attached) -> Result<(), String> {
    let working = target.expected.iter().find(|expected| expected.shape == "working");
    let tid = working.ok_or("no thread works")?.tid;
    let code = attached.data.code();
    let mut outside = Vec::new();
    for _ in 0..LOOKS {
        let address = target.registers(tid)?.1.wrapping_sub(attached.bias);
        let ranges = code.evaluation.iter().chain(&code.parts);
        if !ranges.into_iter().any(|range| range.contains(&address)) {
            outside.push(address);
        }
        std::thread::sleep(Duration::from_millis(3));
    }
    if outside.len() * 10 > LOOKS { Err(format!("{outside:x?} of {LOOKS} are outside")) } else { Ok(()) }
}

fn check_thread(
    target: &Target,
    instance: &dyn Instance,
    layout: &python::Layout,
    expected: &Expected,
) -> Result<usize, String> {
    let (thread_pointer, _) = target.registers(expected.tid)?;
    let mut process = Process::new(target.pid());
    let mut memory = Walked(&mut process);
    let state = python::thread_state(layout, thread_pointer, &mut memory);
    let state = state.map_err(|reason| reason.name().to_owned())?;
    let mut walk = Walk::EMPTY;
    walk.start(layout, state, &mut memory).map_err(|reason| reason.name().to_owned())?;
    let (mut steps, mut end) = (Vec::new(), None);
    for _ in 0..STEPS_MAX {
        match walk.step(layout, &mut memory) {
            Step::End(reason) => {
                end = Some(reason);
                break;
            }
            step => steps.push(step),
        }
    }
    if end != Some(Reason::Root) {
        return Err(format!("ends with {end:?} after {} steps", steps.len()));
    }
    let mut names = HashMap::new();
    let mut found = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let (Step::Frame(frame) | Step::Last(frame)) = *step else { continue };
        let code = Code { address: frame.code, checksum: frame.checksum };
        let function = names.entry(code).or_insert_with(|| instance.function(code, &mut process));
        let function = function.as_ref().map_err(|unnamed| unnamed.to_string())?;
        let is_last = matches!(step, Step::Last(_)) || matches!(steps.get(index + 1), Some(Step::Entry(_)));
        found.push((function.clone(), frame.instruction, is_last));
    }
    compare(&found, expected)
}

fn compare(found: &[(Function, u32, bool)], expected: &Expected) -> Result<usize, String> {
    if found.len() != expected.frames.len() {
        let names: Vec<&str> = found.iter().map(|(function, ..)| function.name.as_str()).take(12).collect();
        return Err(format!("{} frames, {} are right: {names:?}", found.len(), expected.frames.len()));
    }
    for (index, ((function, instruction, is_last), (name, file, line))) in
        found.iter().zip(&expected.frames).enumerate()
    {
        let mut name: String = name.clone();
        if name.chars().count() > NAME_CHARACTERS_MAX {
            name = name.chars().take(NAME_CHARACTERS_MAX).chain(['…']).collect();
        }
        let right = (name.as_str(), file.as_str(), *line);
        let shown = (function.name.as_str(), function.file.as_str(), function.line(*instruction));
        if shown != right {
            return Err(format!("frame {index} is {shown:?} at {instruction}, right is {right:?}"));
        }
        if CALLED_FROM_C.contains(&name.as_str()) && !is_last {
            return Err(format!("frame {index}, {name}, is called by native code and says otherwise"));
        }
    }
    Ok(found.len())
}
