//! What a guest says on its console: `KOVAR-VM pass|fail|skip <name> [<why>]`, notes, `KOVAR-VM measured <name> <figures>`,
//! and `KOVAR-VM end`.

use std::collections::VecDeque;

use anyhow::{Result, bail};

use crate::test::count::Tally;

const MARK: &str = "KOVAR-VM ";
/// How much of the console is shown when the guest never came to its end.
const TAIL_LINES: usize = 40;
/// More checks than any guest has; the rest of a console gone wild is dropped.
const LINES_MAX: usize = 1000;

#[derive(Debug, Default)]
pub(super) struct Report {
    passed: Vec<String>,
    failed: Vec<String>,
    skipped: Vec<String>,
    notes: Vec<String>,
    measured: Vec<String>,
    has_ended: bool,
    tail: VecDeque<String>,
}

impl Report {
    /// Of a guest that could not even be started.
    pub(super) fn broken(why: &str) -> Self {
        Self { failed: vec![format!("boot {why}")], has_ended: true, ..Self::default() }
    }

    pub(super) fn read(&mut self, line: &str) {
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(line.to_owned());
        // A message of the kernel may stand before it on the same line.
        let Some((_, said)) = line.split_once(MARK) else { return };
        let (kind, rest) = said.split_once(' ').unwrap_or((said, ""));
        let list = match kind {
            "pass" => &mut self.passed,
            "fail" => &mut self.failed,
            "skip" => &mut self.skipped,
            "note" => &mut self.notes,
            "measured" => &mut self.measured,
            "end" => {
                self.has_ended = true;
                return;
            }
            _ => return,
        };
        if list.len() < LINES_MAX {
            list.push(rest.trim().to_owned());
        }
    }

    /// A guest that does not reach its end has failed, whatever passed before.
    pub(super) fn tally(&self) -> Tally {
        Tally {
            passed: self.passed.len(),
            failed: self.failed.len() + usize::from(!self.has_ended),
            skipped: self.skipped.len(),
        }
    }

    /// The lines `measured` of a guest that came to its end and failed in nothing.
    ///
    /// # Errors
    /// What failed, or the console of a guest that did not reach its end.
    pub(super) fn measured(self) -> Result<Vec<String>> {
        if let Some(why) = self.failed.first() {
            bail!("the guest says: {why}\n{}", self.console());
        }
        if !self.has_ended {
            bail!("the guest did not reach its end; its console ended with:\n{}", self.console());
        }
        Ok(self.measured)
    }

    fn console(&self) -> String {
        self.tail.iter().map(|line| format!("    | {line}\n")).collect()
    }

    pub(super) fn print(&self, kernel: &str) {
        for (kind, lines) in
            [("pass", &self.passed), ("note", &self.notes), ("skip", &self.skipped), ("FAILED", &self.failed)]
        {
            for line in lines {
                println!("  {kernel} {kind} {line}");
            }
        }
        if !self.has_ended {
            println!("  {kernel} FAILED the guest did not reach its end; its console ended with:");
            print!("{}", self.console());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(console: &str) -> Report {
        let mut report = Report::default();
        console.lines().for_each(|line| report.read(line));
        report
    }

    #[test]
    fn each_kind_of_line_is_counted() {
        let report = report(
            "[    1.2] random: crng\nKOVAR-VM pass doctor\n[ 3.1] noise KOVAR-VM pass split\n\
             KOVAR-VM fail kernel no vfs_read\nKOVAR-VM skip hotplug one CPU\nKOVAR-VM note runs=7\nKOVAR-VM end\n",
        );
        assert_eq!(report.tally(), Tally { passed: 2, failed: 1, skipped: 1 });
        assert_eq!(report.failed, ["kernel no vfs_read"]);
    }

    #[test]
    fn a_guest_without_an_end_has_failed() {
        assert_eq!(
            report("KOVAR-VM pass doctor\nKernel panic\n").tally(),
            Tally { passed: 1, failed: 1, skipped: 0 }
        );
        assert_eq!(report("").tally().failed, 1);
    }

    #[test]
    fn figures_count_only_when_nothing_failed_and_the_end_was_reached() {
        let figures = "KOVAR-VM measured start cpu_ns=7\n";
        assert_eq!(report(&format!("{figures}KOVAR-VM end\n")).measured().unwrap(), ["start cpu_ns=7"]);
        let error = report(figures).measured().unwrap_err().to_string();
        assert!(error.contains("did not reach its end") && error.contains("cpu_ns=7"), "{error}");
        let failed = report(&format!("{figures}KOVAR-VM fail nothing is pushed\nKOVAR-VM end\n"));
        assert!(failed.measured().unwrap_err().to_string().contains("nothing is pushed"));
    }

    #[test]
    fn the_kept_console_is_bounded() {
        let report = report(&"line\n".repeat(TAIL_LINES * 3));
        assert_eq!(report.tail.len(), TAIL_LINES);
    }
}
