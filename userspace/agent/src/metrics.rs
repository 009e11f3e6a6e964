//! Everybody's metrics as one page in the Prometheus text format, and the process's own.
//!
//! The format: <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>.

use model::{Metric, MetricKind};
use std::collections::HashMap;
use std::fmt::Write;

/// The media type of the page.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Renders the metrics, each name's series together under one HELP and TYPE, in the order of first appearance.
pub(crate) fn render(metrics: &[Metric]) -> String {
    let mut families: Vec<Vec<&Metric>> = Vec::new();
    let mut by_name: HashMap<&str, usize> = HashMap::new();
    for metric in metrics {
        let index = *by_name.entry(metric.name).or_insert_with(|| {
            families.push(Vec::new());
            families.len() - 1
        });
        families[index].push(metric);
    }
    let mut out = String::with_capacity(metrics.len() * 96);
    for family in families {
        render_family(&family, &mut out);
    }
    out
}

fn render_family(family: &[&Metric], out: &mut String) {
    let Some(first) = family.first() else { return };
    let kind = match first.kind {
        MetricKind::Counter => "counter",
        MetricKind::Gauge => "gauge",
    };
    let help = first.help.replace('\\', "\\\\").replace('\n', "\\n");
    let _infallible = writeln!(out, "# HELP {} {help}\n# TYPE {} {kind}", first.name, first.name);
    for metric in family {
        out.push_str(metric.name);
        for (i, (name, value)) in metric.labels.iter().enumerate() {
            let open = if i == 0 { '{' } else { ',' };
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _infallible = write!(out, "{open}{name}=\"{value}\"");
        }
        if !metric.labels.is_empty() {
            out.push('}');
        }
        let _infallible = writeln!(out, " {}", number(metric.value));
    }
}

/// A number as Prometheus reads it.
fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        value.to_string()
    }
}

/// What this process costs, and which version it is.
pub(crate) fn process(started_unix_ms: i64) -> Vec<Metric> {
    let mut metrics = vec![
        Metric::gauge("kovar_build_info", "Always 1; the label says which version runs.", 1.0)
            .with("version", env!("CARGO_PKG_VERSION")),
        Metric::gauge(
            "kovar_process_start_seconds",
            "When the process started, seconds since 1970.",
            started_unix_ms as f64 / 1000.0,
        ),
    ];
    if let Some(bytes) = resident_bytes() {
        metrics.push(Metric::gauge("kovar_process_resident_bytes", "Memory in RAM.", bytes as f64));
    }
    if let Some(seconds) = cpu_seconds() {
        metrics.push(Metric {
            name: "kovar_process_cpu_seconds_total",
            help: "CPU time used, user and kernel.",
            kind: MetricKind::Counter,
            labels: Vec::new(),
            value: seconds,
        });
    }
    metrics
}

/// The second field of `/proc/self/statm`, in pages.
fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    // SAFETY: sysconf takes no pointers.
    let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages.checked_mul(u64::try_from(page_bytes).ok()?)
}

fn cpu_seconds() -> Option<f64> {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to a whole rusage, which getrusage fills in.
    let result = unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) };
    // SAFETY: it was zeroed, and every bit pattern of an rusage is valid.
    let usage = unsafe { usage.assume_init() };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    (result == 0).then(|| seconds(usage.ru_utime) + seconds(usage.ru_stime))
}

#[cfg(test)]
mod tests {
    use super::{process, render};
    use model::Metric;

    #[test]
    fn a_name_has_one_help_and_its_series_stand_together() {
        let page = render(&[
            Metric::counter("a_total", "A.", 3).with("x", "1"),
            Metric::gauge("b", "B.", 0.5),
            Metric::counter("a_total", "A.", 4).with("x", "2").with("y", "3"),
        ]);
        let expected = "# HELP a_total A.\n# TYPE a_total counter\na_total{x=\"1\"} 3\na_total{x=\"2\",y=\"3\"} 4\n\
                        # HELP b B.\n# TYPE b gauge\nb 0.5\n";
        assert_eq!(page, expected);
    }

    #[test]
    fn special_characters_and_numbers_are_written_as_the_format_says() {
        let page = render(&[
            Metric::gauge("a", "back\\slash\nline", f64::INFINITY).with("x", "q\"b\\n\nl"),
            Metric::gauge("b", "", f64::NAN),
        ]);
        assert!(page.contains("# HELP a back\\\\slash\\nline\n"), "{page}");
        assert!(page.contains("a{x=\"q\\\"b\\\\n\\nl\"} +Inf\n") && page.contains("b NaN\n"), "{page}");
    }

    #[test]
    fn the_process_knows_its_own_memory_and_time() {
        let page = render(&process(1500));
        let value = |name: &str| -> f64 {
            let line = page.lines().find(|line| line.starts_with(name)).expect(name);
            line.rsplit(' ').next().expect("a value").parse().expect("a number")
        };
        assert!(value("kovar_process_resident_bytes ") > 1e6, "{page}");
        assert!(value("kovar_process_cpu_seconds_total ") > 0.0, "{page}");
        assert!((value("kovar_process_start_seconds ") - 1.5).abs() < 1e-9, "{page}");
    }
}
