//! The account that `kovar profile` prints at its end.

use anyhow::{Context, Result};

/// Where the ticks went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) counted: u64,
    pub(crate) idle: u64,
    pub(crate) delivered: u64,
    /// By reason.
    pub(crate) lost: Vec<(String, u64)>,
}

impl Summary {
    /// # Errors
    /// A line that must be there is not, or has no number.
    pub(crate) fn parse(stderr: &str) -> Result<Self> {
        let number = |text: &str| -> Result<u64> {
            let word = text.split_whitespace().next().context("no number")?;
            word.parse().with_context(|| format!("{word:?} in {stderr}"))
        };
        let of = |name: &str| -> Result<u64> {
            let line = stderr.lines().find_map(|line| line.trim().strip_prefix(name));
            number(line.with_context(|| format!("no line {name:?} in {stderr}"))?)
        };
        let lost = stderr.lines().filter_map(|line| line.trim().strip_prefix("lost: "));
        let lost = lost.map(|line| -> Result<(String, u64)> {
            let (reason, count) = line.split_once(' ').context("no number")?;
            Ok((reason.to_owned(), number(count)?))
        });
        Ok(Self {
            counted: of("ticks counted")?,
            idle: of("on an idle CPU")?,
            delivered: of("delivered")?,
            lost: lost.collect::<Result<_>>()?,
        })
    }

    /// Of the ticks that met a busy CPU, how many it did not take: a machine that is not given its CPUs misses ticks
    /// while the clocks of its threads run on.
    pub(crate) fn missed_share(&self) -> f64 {
        let busy = self.counted.saturating_sub(self.idle).max(1);
        self.lost_for("ticks_missed") as f64 / busy as f64
    }

    pub(crate) fn lost_in_all(&self) -> u64 {
        self.lost.iter().map(|(_, count)| count).sum()
    }

    pub(crate) fn lost_for(&self, reason: &str) -> u64 {
        self.lost.iter().filter(|(name, _)| name == reason).map(|(_, count)| count).sum()
    }
}

#[test]
fn the_account_is_read_as_it_is_printed() -> Result<()> {
    let text = "p.pb.gz: 5 samples in 1.0 s\nticks counted     12\n  on an idle CPU   4\n  delivered        5  62.50 % of the rest\n  lost: ring_full  3\n";
    let summary = Summary::parse(text)?;
    assert_eq!((summary.counted, summary.idle, summary.delivered), (12, 4, 5));
    assert_eq!((summary.lost_in_all(), summary.lost_for("ring_full")), (3, 3));
    let missed = Summary { lost: vec![("ticks_missed".to_owned(), 2)], ..summary };
    assert!((missed.missed_share() - 0.25).abs() < 1e-9);
    assert!(Summary::parse("ticks counted 12\n").is_err());
    Ok(())
}
