//! Memory side by side, each ratio against its target.

use super::Measured;
use super::cgroup::Charge;

/// kovar's anonymous and kernel memory over the peer's, at its peak and at the end.
const RATIO_MAX: f64 = 0.5;
const MIB: u64 = 1024 * 1024;

struct Row {
    what: &'static str,
    value: fn(&Measured) -> u64,
    has_target: bool,
}

const ROWS: [Row; 5] = [
    Row {
        what: "anonymous and kernel, at the peak",
        value: |measured| measured.peak.resident_bytes(),
        has_target: true,
    },
    Row {
        what: "anonymous and kernel, at the end",
        value: |measured| measured.last.resident_bytes(),
        has_target: true,
    },
    Row { what: "of it anonymous", value: |measured| last(measured).anonymous_bytes, has_target: false },
    Row { what: "of it the kernel's", value: |measured| last(measured).kernel_bytes, has_target: false },
    Row { what: "file cache, at the end", value: |measured| last(measured).file_bytes, has_target: false },
];

fn last(measured: &Measured) -> Charge {
    measured.last
}

fn ratio(row: &Row, kovar: &Measured, peer: &Measured) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "bytes of memory, far below 2^52")]
    let [kovar, peer] = [kovar, peer].map(|measured| (row.value)(measured) as f64);
    kovar / peer
}

pub(super) fn is_met(kovar: &Measured, peer: &Measured) -> bool {
    ROWS.iter().filter(|row| row.has_target).all(|row| ratio(row, kovar, peer) <= RATIO_MAX)
}

pub(super) fn markdown(kovar: &Measured, peer: &Measured) -> String {
    let mut table =
        "| MiB | kovar | OpenTelemetry | ratio | target |\n|---|---:|---:|---:|---:|\n".to_owned();
    for row in &ROWS {
        let ratio = ratio(row, kovar, peer);
        let target = match (row.has_target, ratio <= RATIO_MAX) {
            (false, _) => String::new(),
            (true, true) => format!("{RATIO_MAX:.2}"),
            (true, false) => format!("{RATIO_MAX:.2} missed"),
        };
        let [kovar, peer] = [kovar, peer].map(|measured| mib((row.value)(measured)));
        table += &format!("| {} | {kovar} | {peer} | {ratio:.2} | {target} |\n", row.what);
    }
    table
}

/// With one decimal.
fn mib(bytes: u64) -> String {
    let tenths = (bytes * 10 + MIB / 2) / MIB;
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(peak_mib: u64, last_mib: u64) -> Measured {
        let charge =
            |mib| Charge { anonymous_bytes: mib * MIB, kernel_bytes: mib * MIB, file_bytes: 5 * MIB };
        Measured { peak: charge(peak_mib), last: charge(last_mib) }
    }

    #[test]
    fn both_the_peak_and_the_end_have_a_target() {
        let peer = measured(60, 40);
        assert!(is_met(&measured(30, 20), &peer));
        assert!(!is_met(&measured(31, 20), &peer));
        assert!(!is_met(&measured(30, 21), &peer));
    }

    #[test]
    fn file_cache_stands_apart() {
        let table = markdown(&measured(24, 21), &measured(60, 40));
        for line in [
            "| anonymous and kernel, at the peak | 48.0 | 120.0 | 0.40 | 0.50 |\n",
            "| anonymous and kernel, at the end | 42.0 | 80.0 | 0.53 | 0.50 missed |\n",
            "| of it anonymous | 21.0 | 40.0 | 0.53 |  |\n",
            "| file cache, at the end | 5.0 | 5.0 | 1.00 |  |\n",
        ] {
            assert!(table.contains(line), "no {line:?} in\n{table}");
        }
    }
}
