//! What is pushed to Pyroscope is what the machine did, and what kovar's own page shows.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::kovar::Running;
use tests::program::Program;
use tests::{host, skip, wait};

use crate::pyroscope::{Pyroscope, own_functions};

const PROCESS: &str = "pushed-split";
const SECONDS: &str = "20";
const PUSH_INTERVAL: Duration = Duration::from_secs(5);
/// A push, its query, and a machine with other things to do.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(60);
/// Percentage points.
const TOLERANCE: f64 = 3.0;

#[test]
fn pyroscope_answers_with_the_same_functions_and_shares() -> Result<()> {
    if !host::is_root() {
        skip::skip("pyroscope_answers_with_the_same_functions_and_shares", "needs root");
        return Ok(());
    }
    let pyroscope = Pyroscope::start()?;
    let storage = tempfile::tempdir()?;
    let settings = format!(
        "node: {{name: node-1}}\nexternal_labels: {{cluster: lab}}\nprofiler: {{push_interval: {}s}}\n\
         destinations: {{pyroscope: [{{name: lab, url: \"http://{}\"}}]}}",
        PUSH_INTERVAL.as_secs(),
        pyroscope.address(),
    );
    let kovar = Running::start(storage.path(), &settings)?;
    let program = Program::split_as(PROCESS)?;
    program.start(&[SECONDS])?.finish(Duration::from_secs(60))?.success()?;

    let mut last = None;
    let both = wait::until("as much in Pyroscope as on the page", ARRIVAL_LIMIT, || {
        let both = (own_functions(&kovar, PROCESS)?, pyroscope.functions(PROCESS)?);
        let is_equal = both.0.total_ns == both.1.total_ns && both.0.total_ns > 0;
        last = Some((both.0.total_ns, both.1.total_ns));
        Ok(is_equal.then_some(both))
    });
    let Ok((own, pushed)) = both else {
        anyhow::bail!("page and Pyroscope, nanoseconds: {last:?}; {}", both.unwrap_err())
    };
    for functions in [&own, &pushed] {
        ensure!(functions.top()? == "work_a", "{:?} on top of {functions:?}", functions.top());
    }
    for function in ["work_a", "work_b", "work_c"] {
        let shares = [own.percent_of(function, "dispatch")?, pushed.percent_of(function, "dispatch")?];
        ensure!((shares[0] - shares[1]).abs() <= TOLERANCE, "{function}: {shares:?}");
    }
    ensure!(pyroscope.services()?.iter().any(|service| service == PROCESS), "{:?}", pyroscope.services());

    let series = pyroscope.series(PROCESS)?;
    let [labels] = series.as_slice() else { anyhow::bail!("one series and not {series:?}") };
    let expected =
        [("service_name", PROCESS), ("process_name", PROCESS), ("node", "node-1"), ("cluster", "lab")];
    for (name, value) in expected {
        ensure!(labels.get(name).is_some_and(|found| found == value), "{name} in {labels:?}");
    }
    for reason in ["rejected", "too_large"] {
        let labels = format!("destination=\"lab\",reason=\"{reason}\"");
        let dropped = kovar.metric("kovar_outlet_dropped_records_total", &labels)?;
        ensure!(dropped == Some(0.0), "{dropped:?} records {reason}");
    }
    ensure!(kovar.stop()?.code() == Some(0), "kovar did not stop cleanly");
    Ok(())
}
