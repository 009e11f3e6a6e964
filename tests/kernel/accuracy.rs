//! Where the time goes: the samples below each work against what the thread's CPU clock says.

use anyhow::{Result, bail};
use tests::declaration::SHARES;
use tests::skip::skip;
use tests::verdict::percent;

use crate::unwinding::{self, Measured, RATE_HZ, Run, print};

const SAMPLES_MIN: u64 = 6_000;
/// Of what a program's clock says at the rate that was asked for, and of what all clocks say.
const TAKEN_MIN_PERCENT: f64 = 95.0;
const TAKEN_IN_ALL_MIN_PERCENT: f64 = 98.0;
/// Where more ticks were missed, the machine did not have its CPUs, and how many samples there are says nothing.
const MISSED_MAX_PERCENT: f64 = 5.0;
/// Ticks are missed in bursts: so many times its share may be one program's.
const BURSTS: f64 = 2.0;
/// Percentage points between samples and clock; and between the clock and what the program was made for.
const TOLERANCE: f64 = 3.0;

const TEST: &str = "the_time_of_every_program_is_split_as_its_threads_clock_says";

#[test]
fn the_time_of_every_program_is_split_as_its_threads_clock_says() -> Result<()> {
    let Run { programs, summary } = unwinding::measured()?;
    let missed_percent = summary.missed_share() * 100.0;
    let mut problems = String::new();
    let mut furthest: (f64, &str) = (0.0, "");
    for Measured { name, account, cpu_ns, .. } in programs {
        let samples: u64 = account.works.iter().sum();
        let all_ns: u64 = cpu_ns.iter().sum();
        for ((work, intended), (found, own_ns)) in SHARES.iter().zip(account.shares().iter().zip(cpu_ns)) {
            let measured = percent(*own_ns, all_ns);
            let off = (found - measured).abs();
            if off > furthest.0 {
                furthest = (off, name);
            }
            if off > TOLERANCE || (measured - intended).abs() > TOLERANCE {
                problems.push_str(&format!(
                    "{name}: {work}: {found:.2} % of {samples} samples, {measured:.2} % of the time, {intended} % intended\n"
                ));
            }
        }
    }
    print(&format!("furthest from the clock: {:.2} points, {}", furthest.0, furthest.1));
    if missed_percent > MISSED_MAX_PERCENT {
        skip(TEST, &format!("how many samples there are: {missed_percent:.1} % of all ticks were missed"));
    } else {
        problems.push_str(&too_few(programs, missed_percent));
    }
    if !problems.is_empty() {
        bail!("{problems}");
    }
    Ok(())
}

/// Of which programs there are fewer samples than their clocks say, but for what was missed.
fn too_few(programs: &[Measured], missed_percent: f64) -> String {
    let mut problems = String::new();
    let (mut in_all, mut worth_in_all) = (0, 0.0);
    for Measured { name, account, cpu_ns, .. } in programs {
        let samples: u64 = account.works.iter().sum();
        let worth = cpu_ns.iter().sum::<u64>() as f64 * f64::from(RATE_HZ) / 1e9;
        let taken = samples as f64 * 100.0 / worth;
        if samples < SAMPLES_MIN || taken < TAKEN_MIN_PERCENT - BURSTS * missed_percent {
            problems.push_str(&format!("{name}: {samples} samples of {worth:.0} that its time is worth\n"));
        }
        (in_all, worth_in_all) = (in_all + samples, worth_in_all + worth);
    }
    let taken = in_all as f64 * 100.0 / worth_in_all;
    let text = format!(
        "{in_all} samples of {worth_in_all:.0} that all the time is worth, {missed_percent:.2} % missed"
    );
    print(&text);
    if taken < TAKEN_IN_ALL_MIN_PERCENT - missed_percent {
        problems.push_str(&text);
    }
    problems
}
