//! What is left to do is an issue: a note of it in the code links there.

use super::{Finding, Source};

/// Written apart so that this file does not find itself.
const MARKS: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];

pub(super) fn check(source: &Source) -> Vec<Finding> {
    let lines = source.text.lines().enumerate();
    lines
        .filter_map(|(index, line)| {
            let mark = MARKS.iter().find(|mark| has_word(line, mark))?;
            let rule = format!("{mark} without a link to its issue");
            (!line.contains("https://")).then(|| Finding::new(&source.path, index + 1, rule))
        })
        .collect()
}

fn has_word(line: &str, word: &str) -> bool {
    let is_inside = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(at, _)| {
        !is_inside(line[..at].chars().next_back()) && !is_inside(line[at + word.len()..].chars().next())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_without_an_issue_is_found_and_one_with_a_link_is_not() {
        let mark = MARKS[0];
        let text =
            format!("//! A.\n// {mark}: later\n// {mark} https://example.com/issues/1\nfn {mark}S() {{}}\n");
        let lines: Vec<usize> =
            check(&Source::parse("a.rs", &text).unwrap()).iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [2]);
    }
}
