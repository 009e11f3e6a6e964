//! Holds the stacks of a program against its declaration: complete, legal, rightly named; and counts.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use crate::chains::{Fit, Seen};
use crate::declaration::Built;
use crate::names::{self, Kind, file_name};
use crate::pprof::{Frame, Stack};
use crate::symbols::Symbols;

/// The label of a sample whose user stack does not reach the thread's first frame; its value says why.
pub const INCOMPLETE: &str = "incomplete";
/// Functions of the kernel in which a process has no user stack: it begins or ends.
const WITHOUT_USER_STACK: [&str; 8] = [
    "do_exit",
    "do_group_exit",
    "begin_new_exec",
    "bprm_execve",
    "load_elf_binary",
    "do_execveat_common",
    "ret_from_fork",
    "schedule_tail",
];
/// What the kernel's own code calls its functions, besides those with `__vdso_`.
const VDSO_NAMES: [&str; 5] = ["clock_gettime", "gettimeofday", "time", "getcpu", "clock_getres"];
/// Different stacks that are kept for the message, and how many of them it shows.
const EXAMPLES_MAX: usize = 4000;
const EXAMPLES_SHOWN: usize = 8;

/// What one stack is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Legal,
    /// One frame is missing between the root and the leaf.
    Transition,
    Illegal,
    /// A name that is in no legal chain, that its file does not have, or that cannot stand beside another one of the
    /// stack; or an offset at which its file has no function. It is the text.
    WrongName(String),
    /// The process begins or ends: there is no user stack, and none can be expected.
    Outside,
}

/// The symbols of the system's libraries, each read once.
#[derive(Debug, Default)]
pub struct Libraries(HashMap<String, Option<Symbols>>);

impl Libraries {
    /// False when the library can be read and has no such function.
    fn may_have(&mut self, path: &str, name: &str) -> bool {
        let symbols = self.0.entry(path.to_owned()).or_insert_with(|| Symbols::read(Path::new(path)).ok());
        symbols.as_ref().is_none_or(|symbols| symbols.has(name))
    }
}

/// What was found of one program.
#[derive(Debug, Clone, Default)]
pub struct Account {
    /// Those with a user stack, or which should have one.
    pub samples: u64,
    /// Of a process that begins or ends, not among [`Self::samples`].
    pub outside: u64,
    pub complete: u64,
    pub legal: u64,
    pub transitions: u64,
    pub illegal: u64,
    /// With a frame of the program that stands as file and offset, or as nothing.
    pub unnamed: u64,
    /// By name.
    pub wrong_names: BTreeMap<String, u64>,
    /// Why the rest of the samples is not complete.
    pub reasons: BTreeMap<String, u64>,
    /// Samples below each of the three works.
    pub works: [u64; 3],
    /// Samples of those that are neither legal nor outside, by what they are, the reason and the frames.
    pub examples: BTreeMap<String, u64>,
}

impl Account {
    /// Counts the stacks of a program.
    pub fn of<'a>(built: &Built, stacks: impl Iterator<Item = &'a Stack>, libraries: &mut Libraries) -> Self {
        let mut account = Self::default();
        for stack in stacks {
            account.add(built, stack, libraries);
        }
        account
    }

    fn add(&mut self, built: &Built, stack: &Stack, libraries: &mut Libraries) {
        let count = stack.samples;
        let verdict = judge(built, stack, libraries);
        if verdict == Verdict::Outside {
            self.outside += count;
            return;
        }
        self.samples += count;
        match stack.label(INCOMPLETE) {
            "" => self.complete += count,
            reason => *self.reasons.entry(reason.to_owned()).or_default() += count,
        }
        let own = built.declaration.own();
        // Stubs have no symbols in any file.
        let is_unnamed = |frame: &Frame| {
            names::unnamed(frame).is_some()
                && names::seen(frame, &own, built.symbols_of(frame)).kind == Kind::Own
        };
        if stack.frames.iter().any(is_unnamed) {
            self.unnamed += count;
        }
        let has = |functions: &[&str]| {
            let names =
                stack.frames.iter().map(|frame| names::seen(frame, &own, built.symbols_of(frame)).name);
            names.into_iter().any(|name| functions.contains(&name.as_str()))
        };
        for (functions, samples) in built.declaration.works.iter().zip(&mut self.works) {
            if has(functions) {
                *samples += count;
            }
        }
        match &verdict {
            Verdict::Legal | Verdict::Outside => self.legal += count,
            Verdict::Transition => self.transitions += count,
            Verdict::Illegal => self.illegal += count,
            Verdict::WrongName(name) => *self.wrong_names.entry(name.clone()).or_default() += count,
        }
        if verdict != Verdict::Legal && self.examples.len() < EXAMPLES_MAX {
            let text = format!("{verdict:?} {} {}", stack.label(INCOMPLETE), shortened(stack));
            *self.examples.entry(text).or_default() += count;
        }
    }

    pub fn wrong(&self) -> u64 {
        self.wrong_names.values().sum()
    }

    /// Percent of the samples.
    pub fn percent(&self, part: u64) -> f64 {
        percent(part, self.samples)
    }

    /// Percent of the samples below the three works.
    pub fn shares(&self) -> [f64; 3] {
        let all = self.works.iter().sum();
        self.works.map(|samples| percent(samples, all))
    }

    /// The most frequent stacks that are not legal, as text.
    pub fn describe(&self) -> String {
        let mut examples: Vec<(&u64, &String)> =
            self.examples.iter().map(|(text, samples)| (samples, text)).collect();
        examples.sort_by(|a, b| b.cmp(a));
        examples
            .iter()
            .take(EXAMPLES_SHOWN)
            .map(|(samples, text)| format!("    {samples} {text}\n"))
            .collect()
    }
}

pub fn percent(part: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { part as f64 * 100.0 / all as f64 }
}

/// What one stack of the program is.
pub fn judge(built: &Built, stack: &Stack, libraries: &mut Libraries) -> Verdict {
    let own = built.declaration.own();
    // Root first, as chains are.
    let user: Vec<&Frame> = stack.frames.iter().rev().filter(|frame| !frame.is_kernel()).collect();
    if user.is_empty() {
        let begins_or_ends = WITHOUT_USER_STACK.iter().any(|name| stack.has(name));
        return if begins_or_ends { Verdict::Outside } else { Verdict::Illegal };
    }
    let seen: Vec<Seen> =
        user.iter().map(|frame| names::seen(frame, &own, built.symbols_of(frame))).collect();
    let declared = built.declaration.functions.get(1..).unwrap_or_default();
    let in_chain = seen.iter().find(|frame| declared.contains(&frame.name.as_str()));
    for (frame, seen) in user.iter().zip(&seen) {
        let name = seen.name.as_str();
        if name.is_empty() {
            if in_chain.is_some() && is_nowhere(built, frame, seen) {
                return Verdict::WrongName(format!("{}, where no function is", frame.name));
            }
            continue;
        }
        let right = match seen.kind {
            Kind::Stub | Kind::Kernel => true,
            Kind::Own => match in_chain {
                Some(declared) => built.chains.have_both(name, &declared.name),
                // Before main and after it, whatever the file has.
                None => built.chains.have(name) || built.symbols.has(name),
            },
            Kind::Libc | Kind::Loader | Kind::Library => libraries.may_have(&frame.mapping, name),
            Kind::Vdso => name.starts_with("__vdso_") || VDSO_NAMES.contains(&name),
            Kind::Unknown => false,
        };
        if !right {
            return Verdict::WrongName(format!("{name} in {}", file_name(&frame.mapping)));
        }
    }
    if let Some(names) = not_apart(built.declaration.apart, &seen) {
        return Verdict::WrongName(names);
    }
    match built.chains.fit(&seen) {
        Fit::Whole => Verdict::Legal,
        Fit::OneMissing => Verdict::Transition,
        Fit::None => Verdict::Illegal,
    }
}

/// Whether it is in a file of the program's own at an offset that no function of that file has.
fn is_nowhere(built: &Built, frame: &Frame, seen: &Seen) -> bool {
    let has_offset = matches!(names::unnamed(frame), Some(Some(_)));
    seen.kind == Kind::Own && has_offset && built.symbols_of(frame).is_some()
}

/// Two names of one stack that are of different groups.
fn not_apart(groups: &[&[&str]], stack: &[Seen]) -> Option<String> {
    let group = |name: &str| {
        groups.iter().position(|names| {
            names.iter().any(|own| match own.strip_suffix('%') {
                Some(begin) => name.starts_with(begin),
                None => *own == name,
            })
        })
    };
    let mut grouped = stack.iter().filter_map(|frame| Some((group(&frame.name)?, &frame.name)));
    let (first_group, first) = grouped.next()?;
    let (_, other) = grouped.find(|(group, _)| *group != first_group)?;
    Some(format!("{other} below {first}"))
}

/// Names from the root to the leaf, of the kernel only where it is alone; frames of the same name in a row once, with
/// their number.
fn shortened(stack: &Stack) -> String {
    let is_in_kernel = stack.frames.iter().all(Frame::is_kernel);
    let mut parts: Vec<(&str, usize)> = Vec::new();
    for frame in stack.frames.iter().rev().filter(|frame| !frame.is_kernel() || is_in_kernel) {
        match parts.last_mut() {
            Some((name, times)) if *name == frame.name => *times += 1,
            _ => parts.push((&frame.name, 1)),
        }
    }
    let part = |(name, times): &(&str, usize)| match times {
        1 => (*name).to_owned(),
        _ => format!("{name} x{times}"),
    };
    parts.iter().map(part).collect::<Vec<_>>().join(";")
}

#[cfg(test)]
mod tests;
