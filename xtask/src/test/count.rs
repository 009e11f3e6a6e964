//! Counts what `cargo test` prints: its result lines, and the tests that say they were skipped.

use std::fmt;
use std::iter::Sum;

/// How many tests passed, failed and were skipped. Displayed, it is the last line of a run.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

impl Tally {
    /// A level that ran nothing proves nothing.
    pub(super) fn or_failed_when_empty(self, level: &str) -> Self {
        if self == Self::default() {
            println!("FAILED {level}: it ran no test");
            return Self { failed: 1, ..self };
        }
        self
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

impl Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(tallies: I) -> Self {
        tallies.fold(Self::default(), |a, b| Self {
            passed: a.passed + b.passed,
            failed: a.failed + b.failed,
            skipped: a.skipped + b.skipped,
        })
    }
}

/// Reads the output of `cargo test -- --nocapture` line by line.
#[derive(Debug, Default)]
pub(super) struct Counter {
    results: Tally,
    /// Tests that passed for the harness but said `skipped: <test>: <why>`.
    said_skipped: usize,
}

impl Counter {
    pub(super) fn read(&mut self, line: &str) {
        if let Some(counts) = line.strip_prefix("test result: ") {
            for part in counts.split(['.', ';']) {
                let mut words = part.split_whitespace();
                let (Some(number), Some(what)) = (words.next(), words.next()) else { continue };
                let Ok(number) = number.parse::<usize>() else { continue };
                match what {
                    "passed" => self.results.passed += number,
                    "failed" => self.results.failed += number,
                    "ignored" => self.results.skipped += number,
                    _ => {}
                }
            }
        } else if is_skip(line) {
            self.said_skipped += 1;
        }
    }

    pub(super) fn tally(&self) -> Tally {
        let Tally { passed, failed, skipped } = self.results;
        let said_skipped = self.said_skipped.min(passed);
        Tally { passed: passed - said_skipped, failed, skipped: skipped + said_skipped }
    }
}

/// With one thread the harness first prints `test <name> ... ` on the same line.
fn is_skip(line: &str) -> bool {
    let said =
        line.split_once(" ... ").filter(|(test, _)| test.starts_with("test ")).map_or(line, |(_, said)| said);
    said.strip_prefix("skipped: ").is_some_and(|rest| rest.contains(": "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(output: &str) -> Tally {
        let mut counter = Counter::default();
        output.lines().for_each(|line| counter.read(line));
        counter.tally()
    }

    #[test]
    fn results_of_several_binaries_add_up() {
        let output = "running 3 tests\n\
            test a ... ok\n\
            test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.10s\n\
            test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.02s\n";
        assert_eq!(tally(output), Tally { passed: 13, failed: 2, skipped: 1 });
    }

    #[test]
    fn a_test_that_says_it_was_skipped_did_not_pass() {
        let output = "test no_python ... skipped: no_python: no interpreter found\nok\n\
            skipped: no_java: no JDK\n\
            test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s\n";
        assert_eq!(tally(output), Tally { passed: 3, failed: 0, skipped: 2 });
    }

    #[test]
    fn a_log_line_that_mentions_skipping_is_not_counted() {
        let output = "2026 INFO skipped: 3\nframes skipped: none: fine\n\
            test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s\n";
        assert_eq!(tally(output), Tally { passed: 1, failed: 0, skipped: 0 });
    }

    #[test]
    fn the_last_line_has_its_exact_form() {
        assert_eq!(Tally { passed: 12, failed: 0, skipped: 3 }.to_string(), "12 passed, 0 failed, 3 skipped");
    }

    #[test]
    fn a_level_that_ran_nothing_has_failed() {
        assert_eq!(Tally::default().or_failed_when_empty("kernel").failed, 1);
        let skipped = Tally { skipped: 1, ..Tally::default() };
        assert_eq!(skipped.or_failed_when_empty("kernel"), skipped);
    }
}
