//! Where the time goes: the samples below each work against what the thread's CPU clock says.

use anyhow::{Result, bail};
use tests::declaration::SHARES;
use tests::verdict::percent;

use crate::unwinding::{self, Measured, RATE_HZ, print};

const SAMPLES_MIN: u64 = 6_000;
/// Of what the clock says at the rate that was asked for.
const TAKEN_MIN_PERCENT: f64 = 95.0;
/// Percentage points between samples and clock.
const TOLERANCE: f64 = 3.0;
/// Percentage points between the clock and what the program was made for.
const PROGRAM_TOLERANCE: f64 = 1.0;

#[test]
fn the_time_of_every_program_is_split_as_its_threads_clock_says() -> Result<()> {
    let mut problems = String::new();
    let mut furthest: (f64, &str) = (0.0, "");
    for Measured { name, account, cpu_ns, .. } in unwinding::measured()? {
        let mut problem = |text: String| problems.push_str(&format!("{name}: {text}\n"));
        let samples: u64 = account.works.iter().sum();
        if samples < SAMPLES_MIN {
            problem(format!("only {samples} samples below the works"));
        }
        let all_ns: u64 = cpu_ns.iter().sum();
        let taken = samples as f64 * 100.0 / (all_ns as f64 * f64::from(RATE_HZ) / 1e9);
        if taken < TAKEN_MIN_PERCENT {
            problem(format!("{taken:.1} % of the samples that its time is worth"));
        }
        for ((work, intended), (found, own_ns)) in SHARES.iter().zip(account.shares().iter().zip(cpu_ns)) {
            let measured = percent(*own_ns, all_ns);
            let off = (found - measured).abs();
            if off > furthest.0 {
                furthest = (off, name);
            }
            if off > TOLERANCE {
                problem(format!("{work}: {found:.2} % of {samples} samples, {measured:.2} % of the time"));
            }
            if (measured - intended).abs() > PROGRAM_TOLERANCE {
                problem(format!("{work}: the program itself spent {measured:.2} % in it, not {intended} %"));
            }
        }
    }
    print(&format!("furthest from the clock: {:.2} points, {}", furthest.0, furthest.1));
    if !problems.is_empty() {
        bail!("{problems}");
    }
    Ok(())
}
