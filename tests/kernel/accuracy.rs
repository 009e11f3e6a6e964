//! Where the time goes: the samples below each work against what the thread's CPU clock says.

use anyhow::{Result, bail};
use tests::declaration::SHARES;
use tests::verdict::percent;

use crate::unwinding::{self, Measured, RATE_HZ, Run, print};

const SAMPLES_MIN: u64 = 6_000;
/// Of what the clocks say at the rate that was asked for, with the ticks that were missed.
const TAKEN_MIN_PERCENT: f64 = 95.0;
/// The same over all programs, where each missed tick counts once.
const TAKEN_IN_ALL_MIN_PERCENT: f64 = 98.0;
/// Percentage points between samples and clock; and between the clock and what the program was made for.
const TOLERANCE: f64 = 3.0;

#[test]
fn the_time_of_every_program_is_split_as_its_threads_clock_says() -> Result<()> {
    let Run { programs, ticks_missed } = unwinding::measured()?;
    let mut problems = String::new();
    let mut furthest: (f64, &str) = (0.0, "");
    for program in programs {
        let Measured { name, account, cpu_ns, .. } = program;
        let mut problem = |text: String| problems.push_str(&format!("{name}: {text}\n"));
        let samples: u64 = account.works.iter().sum();
        let worth = worth(program);
        if samples < SAMPLES_MIN {
            problem(format!(
                "only {samples} samples below the works of {worth:.0}, {ticks_missed} ticks missed"
            ));
        }
        let taken = percent(samples + ticks_missed, worth as u64);
        if taken < TAKEN_MIN_PERCENT {
            problem(format!("{taken:.1} % of the {worth:.0} samples that its time is worth"));
        }
        let all_ns: u64 = cpu_ns.iter().sum();
        for ((work, intended), (found, own_ns)) in SHARES.iter().zip(account.shares().iter().zip(cpu_ns)) {
            let measured = percent(*own_ns, all_ns);
            let off = (found - measured).abs();
            if off > furthest.0 {
                furthest = (off, name);
            }
            if off > TOLERANCE {
                problem(format!("{work}: {found:.2} % of {samples} samples, {measured:.2} % of the time"));
            }
            if (measured - intended).abs() > TOLERANCE {
                problem(format!("{work}: the program itself spent {measured:.2} % in it, not {intended} %"));
            }
        }
    }
    let (worth, samples) = programs.iter().fold((0.0, 0), |(worth, samples), program| {
        (worth + self::worth(program), samples + program.account.works.iter().sum::<u64>())
    });
    print(&format!(
        "{samples} samples of {worth:.0} that all the time is worth, {ticks_missed} ticks missed; furthest from the \
         clock: {:.2} points, {}",
        furthest.0, furthest.1
    ));
    let taken = percent(samples + ticks_missed, worth as u64);
    if taken < TAKEN_IN_ALL_MIN_PERCENT {
        problems.push_str(&format!("{taken:.1} % of the {worth:.0} samples that all the time is worth\n"));
    }
    if !problems.is_empty() {
        bail!("{problems}");
    }
    Ok(())
}

/// Samples that its threads' clocks say it should have below its works.
fn worth(program: &Measured) -> f64 {
    program.cpu_ns.iter().sum::<u64>() as f64 * f64::from(RATE_HZ) / 1e9
}
