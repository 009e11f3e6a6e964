//! The ratchet: what is over a length limit is listed with its present number, and the list may only shrink.

use anyhow::{Context, Result};

use super::Finding;
use super::lengths::Length;

const LIST: &str = include_str!("exceptions.txt");
const LIST_PATH: &str = "xtask/src/tidy/exceptions.txt";
/// How many exceptions there are; lower it with the list, never raise it.
const EXCEPTIONS_MAX: usize = 0;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Exception {
    line: usize,
    path: String,
    function: Option<String>,
    lines: usize,
}

pub(super) fn read() -> Result<Vec<Exception>> {
    parse(LIST)
}

fn parse(list: &str) -> Result<Vec<Exception>> {
    let lines = list.lines().enumerate().filter(|(_, line)| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|(index, text)| {
            let line = index + 1;
            let words: Vec<&str> = text.split_whitespace().collect();
            let (path, function, lines) = match words[..] {
                [path, lines] => (path, None, lines),
                [path, function, lines] => (path, Some(function.to_owned()), lines),
                _ => anyhow::bail!("{LIST_PATH}:{line}: not `<path> [<function>] <lines>`"),
            };
            let lines =
                lines.parse().with_context(|| format!("{LIST_PATH}:{line}: {lines:?} is no number"))?;
            Ok(Exception { line, path: path.to_owned(), function, lines })
        })
        .collect()
}

pub(super) fn check(lengths: &[Length], exceptions: &[Exception]) -> Vec<Finding> {
    let mut findings = Vec::new();
    if exceptions.len() > EXCEPTIONS_MAX {
        let rule = format!(
            "{} exceptions; the list may only shrink and {EXCEPTIONS_MAX} are left",
            exceptions.len()
        );
        findings.push(Finding::new(LIST_PATH, 1, rule));
    }
    for length in lengths {
        let listed = exceptions.iter().find(|exception| is_about(exception, length));
        let limit = length.limit();
        let what = length.function.as_deref().map_or("the file".to_owned(), |name| format!("fn {name}"));
        let lines = length.lines;
        match listed {
            None if lines > limit => {
                let rule = format!("{what} has {lines} lines, at most {limit} are allowed: split it");
                findings.push(Finding::new(&length.path, length.line, rule));
            }
            Some(exception) if lines <= limit => {
                let rule = format!("{what} of {} is within the limit now: remove the line", length.path);
                findings.push(Finding::new(LIST_PATH, exception.line, rule));
            }
            Some(exception) if lines > exception.lines => {
                let rule =
                    format!("{what} has grown from {} to {lines} lines; it may only shrink", exception.lines);
                findings.push(Finding::new(&length.path, length.line, rule));
            }
            Some(exception) if lines < exception.lines => {
                let rule = format!("{what} of {} has {lines} lines now: lower the number", length.path);
                findings.push(Finding::new(LIST_PATH, exception.line, rule));
            }
            _ => {}
        }
    }
    let stale =
        exceptions.iter().filter(|exception| !lengths.iter().any(|length| is_about(exception, length)));
    findings.extend(stale.map(|exception| {
        Finding::new(LIST_PATH, exception.line, format!("{} is not there any more", exception.path))
    }));
    findings
}

fn is_about(exception: &Exception, length: &Length) -> bool {
    exception.path == length.path && exception.function == length.function
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(lines: usize) -> Vec<Length> {
        vec![Length { path: "a.rs".to_owned(), function: Some("f".to_owned()), line: 3, lines }]
    }

    fn rules(lengths: &[Length], list: &str) -> Vec<String> {
        let findings = check(lengths, &parse(list).unwrap());
        findings
            .into_iter()
            .map(|finding| finding.to_string())
            .filter(|rule| !rule.contains("are left"))
            .collect()
    }

    #[test]
    fn what_is_over_its_limit_is_found() {
        assert!(rules(&function(71), "")[0].starts_with("a.rs:3: fn f has 71 lines"));
        assert!(rules(&function(70), "").is_empty());
        let file = Length { path: "a.rs".to_owned(), function: None, line: 1, lines: 401 };
        assert!(rules(&[file], "")[0].starts_with("a.rs:1: the file has 401 lines"));
    }

    #[test]
    fn a_listed_exception_holds_at_exactly_its_number() {
        assert!(rules(&function(80), "a.rs f 80").is_empty());
        assert!(rules(&function(81), "a.rs f 80")[0].contains("grown"));
        assert!(
            rules(&function(79), "# list\na.rs f 80")[0].contains("exceptions.txt:2: fn f of a.rs has 79")
        );
        assert!(rules(&function(70), "a.rs f 80")[0].contains("remove the line"));
        assert!(rules(&[], "a.rs f 80")[0].contains("not there any more"));
    }

    #[test]
    fn a_longer_list_is_found() {
        let list = "a.rs f 80\n".repeat(EXCEPTIONS_MAX + 1);
        let findings = check(&function(80), &parse(&list).unwrap());
        assert!(findings.iter().any(|finding| finding.rule.contains("may only shrink")));
    }
}
