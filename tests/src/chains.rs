//! Legal chains of calls as patterns over names, and whether a stack is one of them.
//!
//! A pattern is a chain of links, root first, joined by ` > `: `_start > @libc* > main > work_a|work_b > spin`. A link
//! names functions, any of which fits, or kinds of code after `@`, and may end in `?` (may be missing), `*` (any number
//! of frames), `+` (at least one) or `{500}` (exactly so many). `%` stands for any part of a name. A stack is legal when
//! it is a chain or the root's end of one: each function of a chain may be the leaf.

use anyhow::{Context, Result, ensure};

use crate::names::Kind;

/// The most links that a pattern may have once its counts are written out.
const LINKS_MAX: usize = 2048;

/// One frame of a stack as patterns see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Without parameters and the compiler's suffixes; empty when the frame has no name.
    pub name: String,
    pub kind: Kind,
}

/// How well a stack fits. The least is the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fit {
    Whole,
    /// One frame between the root and the leaf is missing: the instant between a call and the new frame, or between a
    /// frame's end and the return.
    OneMissing,
    None,
}

/// The legal chains of one program.
#[derive(Debug)]
pub struct Chains(Vec<Vec<Link>>);

impl Chains {
    /// # Errors
    /// A pattern that is none; the text names it.
    pub fn parse(patterns: &[&str]) -> Result<Self> {
        let chain = |pattern: &&str| parse(pattern).with_context(|| format!("{pattern:?}"));
        Ok(Self(patterns.iter().map(chain).collect::<Result<_>>()?))
    }

    /// The best fit of a stack, root first. No chain fits a stack without frames.
    pub fn fit(&self, stack: &[Seen]) -> Fit {
        self.0.iter().map(|chain| fit(chain, stack)).min().unwrap_or(Fit::None)
    }

    /// Whether any chain has this function, at any place.
    pub fn have(&self, name: &str) -> bool {
        self.0.iter().any(|chain| has(chain, name))
    }

    /// Whether any chain has both functions.
    pub fn have_both(&self, one: &str, other: &str) -> bool {
        self.0.iter().any(|chain| has(chain, one) && has(chain, other))
    }
}

fn has(chain: &[Link], name: &str) -> bool {
    chain.iter().flat_map(|link| &link.any_of).any(|one| one.is_named(name))
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Link {
    any_of: Vec<One>,
    times: Times,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum One {
    Name(String),
    /// What a name begins and ends with.
    Around(String, String),
    Kinds(&'static [Kind]),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Times {
    One,
    AtMostOne,
    Any,
}

impl One {
    fn parse(text: &str) -> Result<Self> {
        ensure!(!text.is_empty(), "a name is empty");
        if let Some(kind) = text.strip_prefix('@') {
            return Ok(Self::Kinds(
                kinds(kind).with_context(|| format!("no kind of code is called @{kind}"))?,
            ));
        }
        match text.split_once('%') {
            Some((before, after)) => {
                ensure!(!after.contains('%'), "{text:?} has more than one %");
                Ok(Self::Around(before.to_owned(), after.to_owned()))
            }
            None => Ok(Self::Name(text.to_owned())),
        }
    }

    fn is_named(&self, name: &str) -> bool {
        match self {
            Self::Name(own) => own == name,
            Self::Around(before, after) => {
                name.len() >= before.len() + after.len() && name.starts_with(before) && name.ends_with(after)
            }
            Self::Kinds(_) => false,
        }
    }

    fn fits(&self, frame: &Seen) -> bool {
        match self {
            Self::Kinds(kinds) => kinds.contains(&frame.kind),
            Self::Name(_) | Self::Around(..) => !frame.name.is_empty() && self.is_named(&frame.name),
        }
    }
}

impl Link {
    fn fits(&self, frame: &Seen) -> bool {
        self.any_of.iter().any(|one| one.fits(frame))
    }
}

fn kinds(name: &str) -> Option<&'static [Kind]> {
    Some(match name {
        "libc" => &[Kind::Libc],
        "ld" => &[Kind::Loader],
        "vdso" => &[Kind::Vdso],
        "plt" => &[Kind::Stub],
        "lib" => &[Kind::Libc, Kind::Loader, Kind::Library, Kind::Vdso],
        _ => return None,
    })
}

fn parse(pattern: &str) -> Result<Vec<Link>> {
    let mut links = Vec::new();
    for text in pattern.split(" > ") {
        let (names, times) = match text.chars().last().context("an empty link")? {
            '?' => (&text[..text.len() - 1], vec![Times::AtMostOne]),
            '*' => (&text[..text.len() - 1], vec![Times::Any]),
            '+' => (&text[..text.len() - 1], vec![Times::One, Times::Any]),
            '}' => {
                let (names, count) = text.rsplit_once('{').context("no {")?;
                let count: usize = count.trim_end_matches('}').parse().context("no number in {}")?;
                ensure!(count <= LINKS_MAX, "more than {LINKS_MAX} links");
                (names, vec![Times::One; count])
            }
            _ => (text, vec![Times::One]),
        };
        let any_of: Vec<One> = names.split('|').map(One::parse).collect::<Result<_>>()?;
        links.extend(times.into_iter().map(|times| Link { any_of: any_of.clone(), times }));
        ensure!(links.len() <= LINKS_MAX, "more than {LINKS_MAX} links");
    }
    Ok(links)
}

/// Where in a chain the next frame may stand: without a missing frame, and with one.
type Places = [Vec<bool>; 2];

fn fit(chain: &[Link], stack: &[Seen]) -> Fit {
    let nowhere = || -> Places { [vec![false; chain.len() + 1], vec![false; chain.len() + 1]] };
    let mut places = nowhere();
    places[0][0] = !stack.is_empty();
    pass(chain, &mut places);
    for frame in stack {
        let mut next = nowhere();
        for (at, link) in chain.iter().enumerate() {
            let after = if link.times == Times::Any { at } else { at + 1 };
            for missing in 0..2 {
                if places[missing][at] && link.fits(frame) {
                    next[missing][after] = true;
                }
            }
        }
        pass(chain, &mut next);
        places = next;
    }
    let some = |places: &Vec<bool>| places.contains(&true);
    match places.each_ref().map(some) {
        [true, _] => Fit::Whole,
        [false, true] => Fit::OneMissing,
        [false, false] => Fit::None,
    }
}

/// Goes past links that need no frame, and past one that needs one and is neither the root nor the end.
fn pass(chain: &[Link], places: &mut Places) {
    for (at, link) in chain.iter().enumerate() {
        for missing in 0..2 {
            if !places[missing][at] {
                continue;
            }
            if link.times != Times::One {
                places[missing][at + 1] = true;
            } else if missing == 0 && at > 0 && at + 1 < chain.len() {
                places[1][at + 1] = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(text: &str) -> Vec<Seen> {
        let frame = |name: &str| match name.split_once(':') {
            Some(("libc", name)) => Seen { name: name.to_owned(), kind: Kind::Libc },
            Some(("plt", name)) => Seen { name: name.to_owned(), kind: Kind::Stub },
            _ => Seen { name: name.to_owned(), kind: Kind::Own },
        };
        text.split_whitespace().map(frame).collect()
    }

    fn fit(patterns: &[&str], text: &str) -> Fit {
        Chains::parse(patterns).unwrap().fit(&stack(text))
    }

    const PLAIN: &[&str] = &["_start > @libc* > main > dispatch > work_a|work_b > spin"];

    #[test]
    fn a_whole_chain_and_each_of_its_root_ends_are_legal() {
        for legal in [
            "_start libc: libc:x main dispatch work_b spin",
            "_start main dispatch",
            "_start libc:",
            "_start",
        ] {
            assert_eq!(fit(PLAIN, legal), Fit::Whole, "{legal}");
        }
    }

    #[test]
    fn a_chain_without_its_root_or_with_a_stranger_in_it_is_not_legal() {
        for illegal in [
            "",
            "main dispatch work_a spin",
            "_start main dispatch work_a stranger",
            "_start main dispatch stranger work_a spin",
            "_start main dispatch work_a spin spin",
            "_start libc: spin",
        ] {
            assert_eq!(fit(PLAIN, illegal), Fit::None, "{illegal}");
        }
    }

    #[test]
    fn one_missing_frame_between_root_and_leaf_is_told_apart_and_two_are_not_legal() {
        assert_eq!(fit(PLAIN, "_start libc: main work_a spin"), Fit::OneMissing);
        assert_eq!(fit(PLAIN, "_start libc: main dispatch spin"), Fit::OneMissing);
        assert_eq!(fit(PLAIN, "_start libc: main spin"), Fit::None);
    }

    #[test]
    fn the_best_fit_of_all_chains_counts() {
        let both = ["main > dispatch > work_a", "main > work_a"];
        assert_eq!(fit(&both, "main work_a"), Fit::Whole);
        assert_eq!(fit(&both[..1], "main work_a"), Fit::OneMissing);
    }

    #[test]
    fn a_count_is_exact_for_what_stands_below_it() {
        let deep = ["main > descend{3} > work"];
        assert_eq!(fit(&deep, "main descend descend descend work"), Fit::Whole);
        assert_eq!(fit(&deep, "main descend descend"), Fit::Whole);
        assert_eq!(fit(&deep, "main descend descend work"), Fit::OneMissing);
        assert_eq!(fit(&deep, "main descend work"), Fit::None);
        assert_eq!(fit(&deep, "main descend descend descend descend work"), Fit::None);
    }

    #[test]
    fn parts_of_names_and_kinds_of_code_fit() {
        let go = ["runtime.goexit%? > runtime.main > main.main > runtime.%*", "@plt > x"];
        assert_eq!(fit(&go, "runtime.goexit.abi0 runtime.main main.main runtime.a runtime.b"), Fit::Whole);
        assert_eq!(fit(&go, "runtime.main main.main"), Fit::Whole);
        assert_eq!(fit(&go, "runtime.main main.main libc:runtime"), Fit::None);
        assert_eq!(fit(&go, "plt: x"), Fit::Whole);
        assert_eq!(
            fit(&["main > %*"], "main libc:"),
            Fit::None,
            "a name is needed where names are asked for"
        );
    }

    #[test]
    fn names_of_chains_are_known_and_kinds_are_no_names() {
        let chains = Chains::parse(&["_start > @libc+ > main > std::%|spin?"]).unwrap();
        assert!(chains.have("spin") && chains.have("std::rt::begin") && chains.have("_start"));
        assert!(chains.have_both("main", "spin"));
        assert!(!Chains::parse(&["main > a", "main > b"]).unwrap().have_both("a", "b"));
        assert!(!chains.have("libc") && !chains.have("work_a") && !chains.have("spin.cold"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for bad in ["", "main > ", "main > a||b", "@nothing", "main{x}", "main{99999}", "a%b%c"] {
            assert!(Chains::parse(&[bad]).is_err(), "{bad:?}");
        }
    }
}
