//! A stack's function names: on one line, and against the calls that the program's source makes.

use std::fmt;

use abi::End;

/// Names leaf first, and the end: `spin < work_a < dispatch < main < _start : root`. Repeated names are counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    pub names: Vec<String>,
    pub end: End,
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, run) in self.names.chunk_by(|a, b| a == b).enumerate() {
            let (separator, name) =
                (if index == 0 { "" } else { " < " }, run.first().map_or("", |name| name));
            write!(f, "{separator}{name}")?;
            if run.len() > 1 {
                write!(f, " x{}", run.len())?;
            }
        }
        write!(f, " : {}", self.end.name())
    }
}

/// One level of calls: names of which one is called there, `a|b`; with `?` it may be left out, with `+` it may
/// call itself.
struct Level<'a> {
    text: &'a str,
    optional: bool,
    repeats: bool,
}

impl<'a> Level<'a> {
    fn new(text: &'a str) -> Self {
        let (optional, repeats) = (text.contains('?'), text.contains('+'));
        Self { text: text.trim_end_matches(['?', '+']), optional, repeats }
    }

    fn holds(&self, name: &str) -> bool {
        self.text.split('|').any(|step| is_function(name, step))
    }
}

/// Whether a symbol is this function: as it is, or as C++ and Rust mangle its path, each part behind its length.
fn is_function(symbol: &str, function: &str) -> bool {
    let mangled = || function.split("::").map(|part| format!("{}{part}", part.len())).collect::<String>();
    symbol == function || symbol.starts_with('_') && symbol.contains(&mangled())
}

/// What is wrong with the names, given the chain of calls leaf first: those of the chain's functions among them must
/// be its outer part, in order and without a gap. Other functions may stand anywhere between.
pub fn chain_breach(chain: &[String], names: &[String]) -> Option<String> {
    let levels: Vec<Level<'_>> = chain.iter().rev().map(|text| Level::new(text)).collect();
    let known = |name: &&String| levels.iter().any(|level| level.holds(name));
    let mut at = 0;
    let mut used = false;
    for name in names.iter().rev().filter(known) {
        loop {
            let Some(level) = levels.get(at) else {
                return Some(format!("{name} is called inside of the chain"));
            };
            if level.holds(name) && (!used || level.repeats) {
                used = true;
                break;
            }
            if !used && !level.optional {
                return Some(format!("{name} is called where {} should be", level.text));
            }
            (at, used) = (at + 1, false);
        }
    }
    let outermost = levels.first().filter(|level| !level.optional && at == 0 && !used)?;
    Some(format!("{} is not there", outermost.text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breach(names: &str) -> Option<String> {
        let chain = ["chain::spin|spin", "work_a|work_b", "deep+", "hop?", "main"].map(str::to_owned);
        let names: Vec<String> = names.split_whitespace().map(str::to_owned).collect();
        chain_breach(&chain, &names)
    }

    #[test]
    fn the_outer_part_of_the_chain_in_order_is_no_breach() {
        for names in [
            "spin work_a deep deep hop main _start",
            "spin work_b deep main",
            "memcpy deep other hop main",
            "_ZN5chain4spin17h0123456789abcdefE _RNvCs123_5chain6work_a deep _Z4mainv _start",
        ] {
            assert_eq!(breach(names), None, "{names}");
        }
    }

    #[test]
    fn missing_swapped_and_doubled_calls_are_breaches() {
        for names in [
            "spin work_a deep hop _start",
            "spin work_a main",
            "work_a spin deep main",
            "spin work_a work_b deep main",
            "spin spin work_a deep main",
            "spin work_a deep main main",
            "",
        ] {
            assert!(breach(names).is_some(), "{names}");
        }
    }

    #[test]
    fn a_line_counts_repeated_names() {
        let names = ["spin", "deep", "deep", "deep", "main"].map(str::to_owned).to_vec();
        assert_eq!(Names { names, end: End::Root }.to_string(), "spin < deep x3 < main : root");
    }
}
