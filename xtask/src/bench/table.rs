//! The figures as Markdown, and the limits they are held against.

use super::load::Load;
use super::steady::Measured;

const MIB: u64 = 1024 * 1024;
const MAP_BYTES_MAX: u64 = 24 * MIB;
const ANONYMOUS_RSS_BYTES_MAX: u64 = 48 * MIB;
const CPU_SECONDS_PER_MINUTE_MAX: f64 = 0.3;
const NOT_APPLICABLE: &str = "n/a";

/// What was measured under one load: kovar first, then one for each peer, None where it was skipped.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) load: Load,
    pub(super) kovar: Measured,
    pub(super) peers: Vec<Option<Measured>>,
}

/// A row: what it shows, how, and kovar's limit under the steady load.
struct Row {
    what: &'static str,
    value: fn(&Measured) -> String,
    limit: Option<fn() -> String>,
}

const ROWS: [Row; 7] = [
    Row { what: "BPF maps, MiB", value: map_mib, limit: Some(|| mib(MAP_BYTES_MAX)) },
    Row {
        what: "anonymous RSS, MiB",
        value: |measured| mib(measured.after.cost.anonymous_rss_bytes),
        limit: Some(|| mib(ANONYMOUS_RSS_BYTES_MAX)),
    },
    Row {
        what: "user space, CPU-seconds a minute",
        value: |measured| format!("{:.2}", measured.cpu_seconds_per_minute()),
        limit: Some(|| format!("{CPU_SECONDS_PER_MINUTE_MAX:.2}")),
    },
    Row {
        what: "kernel, ns a sample",
        value: |measured| or_none(measured.ns_per_sample().map(|ns| ns.to_string())),
        limit: None,
    },
    Row {
        what: "kernel, CPU-seconds a minute",
        value: |measured| or_none(measured.bpf_seconds_per_minute().map(|s| format!("{s:.2}"))),
        limit: None,
    },
    Row { what: "samples", value: |measured| measured.samples.to_string(), limit: None },
    Row {
        what: "machine, processes started a second",
        value: |measured| format!("{:.0}", measured.forks_per_second()),
        limit: None,
    },
];

/// Whether kovar keeps its limits; they hold for the steady load alone.
pub(super) fn is_within_limits(groups: &[Group]) -> bool {
    groups.iter().filter(|group| has_limit(group.load)).all(|group| {
        let cost = &group.kovar.after.cost;
        cost.bpf.map_bytes <= MAP_BYTES_MAX
            && cost.anonymous_rss_bytes <= ANONYMOUS_RSS_BYTES_MAX
            && group.kovar.cpu_seconds_per_minute() <= CPU_SECONDS_PER_MINUTE_MAX
    })
}

fn has_limit(load: Load) -> bool {
    load == Load::Split
}

/// The table, one row group a load.
pub(super) fn markdown(peers: &[&str], groups: &[Group]) -> String {
    let mut table = line(["", "kovar", "limit"].into_iter().chain(peers.iter().copied()));
    let columns = 2 + peers.len();
    table += &format!("|---|{}\n", "---:|".repeat(columns));
    for group in groups {
        table += &format!("| **{}** |{}\n", group.load.title(), " |".repeat(columns));
        for row in &ROWS {
            let limit = row.limit.filter(|_| has_limit(group.load)).map_or_else(String::new, |limit| limit());
            let peers = group.peers.iter().map(|peer| match peer {
                Some(measured) => (row.value)(measured),
                None => "skipped".to_owned(),
            });
            let cells: Vec<String> =
                [row.what.to_owned(), (row.value)(&group.kovar), limit].into_iter().chain(peers).collect();
            table += &line(cells.iter().map(String::as_str));
        }
    }
    table
}

fn line<'a>(cells: impl Iterator<Item = &'a str>) -> String {
    let cells: Vec<&str> = cells.collect();
    format!("| {} |\n", cells.join(" | "))
}

fn map_mib(measured: &Measured) -> String {
    let bpf = &measured.after.cost.bpf;
    if bpf.maps == 0 { NOT_APPLICABLE.to_owned() } else { mib(bpf.map_bytes) }
}

fn or_none(value: Option<String>) -> String {
    value.unwrap_or_else(|| NOT_APPLICABLE.to_owned())
}

/// With one decimal, rounded up, so that a limit is never met by rounding.
fn mib(bytes: u64) -> String {
    let tenths = (bytes * 10).div_ceil(MIB);
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::super::cost::Bpf;
    use super::super::steady::tests::measured;
    use super::*;

    fn group(load: Load, cpu_seconds: f64) -> Group {
        let mut perf = measured(1.0);
        perf.after.cost.bpf = Bpf::default();
        Group { load, kovar: measured(cpu_seconds), peers: vec![None, Some(perf)] }
    }

    #[test]
    fn each_load_has_its_rows_and_each_peer_its_column() {
        let groups = [group(Load::Split, 0.4), group(Load::Churn, 0.8)];
        let table = markdown(&["OpenTelemetry", "perf"], &groups);
        for line in [
            "|  | kovar | limit | OpenTelemetry | perf |\n|---|---:|---:|---:|---:|\n",
            "| **split: every CPU busy** | | | | |\n| BPF maps, MiB | 20.0 | 24.0 | skipped | n/a |\n",
            "| user space, CPU-seconds a minute | 0.20 | 0.30 | skipped | 0.50 |\n",
            "| user space, CPU-seconds a minute | 0.40 |  | skipped | 0.50 |\n",
            "| kernel, ns a sample | 5000 |  | skipped | n/a |\n",
        ] {
            assert!(table.contains(line), "no {line:?} in\n{table}");
        }
    }

    #[test]
    fn over_a_limit_is_a_failure_under_the_steady_load_alone() {
        assert!(is_within_limits(&[group(Load::Split, 0.4), group(Load::Churn, 0.8)]));
        assert!(!is_within_limits(&[group(Load::Split, 0.8)]));
        let mut too_large = group(Load::Split, 0.4);
        too_large.kovar.after.cost.bpf.map_bytes = MAP_BYTES_MAX + 1;
        assert!(!is_within_limits(&[too_large]));
    }

    #[test]
    fn sizes_are_rounded_up() {
        assert_eq!(mib(MIB), "1.0");
        assert_eq!(mib(MIB + 1), "1.1");
    }
}
