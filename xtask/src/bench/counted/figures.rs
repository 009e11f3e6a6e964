//! What the guest measured, by its lines `start cpu_ns=1` and `depth8 samples=1 kernel_ns=1 user_ns=1 elapsed_ns=1`.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

use crate::vm::NS_PER_INSTRUCTION;

/// How depth the spinning program's stack is, from _start to the innermost function.
pub(super) const DEPTHS: [u64; 3] = [8, 34, 103];

/// Of one profiler.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Figures {
    /// Instructions of its process from exec until its program in the kernel has run for the first time.
    pub(super) start: f64,
    /// One for each of [`DEPTHS`].
    pub(super) depths: Vec<Depth>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Depth {
    /// Instructions a sample.
    pub(super) kernel: f64,
    /// Instructions a sample, of all its threads.
    pub(super) user: f64,
    /// How many frames most of the delivered samples have.
    pub(super) frames: f64,
    pub(super) samples: f64,
}

impl Figures {
    /// # Errors
    /// When a figure is missing, or there is no sample at a depth.
    pub(super) fn read(lines: &[String]) -> Result<Self> {
        let named: BTreeMap<&str, &str> = lines.iter().filter_map(|line| line.split_once(' ')).collect();
        let value = |line: &str, key: &str| -> Result<f64> {
            let words = named.get(line).with_context(|| format!("the guest did not measure {line}"))?;
            let value = words.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
            let value = value.with_context(|| format!("no {key} in {words:?}"))?;
            value.parse().with_context(|| format!("{key} in {words:?}"))
        };
        let depth = |frames: u64| {
            let line = format!("depth{frames}");
            let samples = value(&line, "samples")?;
            if samples < 1.0 {
                bail!("no sample of {line}");
            }
            let per_sample = |key| -> Result<f64> { Ok(instructions(value(&line, key)?) / samples) };
            let frames = value(&format!("{line}-frames"), "frames")?;
            Ok(Depth { kernel: per_sample("kernel_ns")?, user: per_sample("user_ns")?, frames, samples })
        };
        let depths = DEPTHS.into_iter().map(depth).collect::<Result<_>>()?;
        Ok(Self { start: instructions(value("start", "cpu_ns")?), depths })
    }

    /// Each figure's own median.
    ///
    /// # Errors
    /// When there is no run.
    pub(super) fn median(runs: &[Self]) -> Result<Self> {
        let median = |value: &dyn Fn(&Self) -> Option<f64>| {
            let mut values: Vec<f64> = runs.iter().filter_map(value).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().context("no run")
        };
        let of_depth =
            |at: usize, value: fn(&Depth) -> f64| median(&|run: &Self| run.depths.get(at).map(value));
        let depths = (0..DEPTHS.len()).map(|at| {
            Ok(Depth {
                kernel: of_depth(at, |depth| depth.kernel)?,
                user: of_depth(at, |depth| depth.user)?,
                frames: of_depth(at, |depth| depth.frames)?,
                samples: of_depth(at, |depth| depth.samples)?,
            })
        });
        Ok(Self { start: median(&|run: &Self| Some(run.start))?, depths: depths.collect::<Result<_>>()? })
    }
}

fn instructions(ns: f64) -> f64 {
    ns / NS_PER_INSTRUCTION as f64
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A guest's lines with some kernel time a sample at depth 8.
    pub(in super::super) fn figures(kernel_ns: u64, user_ns: u64, start_ns: u64) -> Figures {
        let depth = |frames: u64| {
            [
                format!(
                    "depth{frames} samples=1000 kernel_ns={}000 user_ns={user_ns}000 elapsed_ns=9",
                    kernel_ns * frames / 8
                ),
                format!("depth{frames}-frames frames={frames}"),
            ]
        };
        let lines = [format!("start cpu_ns={start_ns}")];
        Figures::read(&lines.into_iter().chain(DEPTHS.into_iter().flat_map(depth)).collect::<Vec<_>>())
            .unwrap()
    }

    #[test]
    fn costs_are_instructions_a_sample() {
        let read = figures(4000, 600, 1_000_000);
        assert!((read.start - 500_000.0).abs() < 1e-9);
        assert_eq!(read.depths[0], Depth { kernel: 2000.0, user: 300.0, frames: 8.0, samples: 1000.0 });
        assert_eq!(read.depths[1].frames, 34.0);
    }

    #[test]
    fn a_missing_figure_is_named() {
        let error = Figures::read(&["start cpu_ns=1".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("depth8"), "{error}");
        let error = Figures::read(&["depth8 samples=0".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("no sample of depth8"), "{error}");
    }

    #[test]
    fn the_median_is_taken_figure_by_figure() {
        let runs = [figures(10, 900, 50), figures(30, 100, 70), figures(20, 500, 60)];
        let median = Figures::median(&runs).unwrap();
        assert_eq!((median.depths[0].kernel, median.depths[0].user, median.start), (10.0, 250.0, 30.0));
        assert!(Figures::median(&[]).is_err());
    }
}
