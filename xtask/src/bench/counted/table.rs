//! The figures side by side, each ratio against its target.

use super::figures::{DEPTHS, Depth, Figures};

const KERNEL_RATIO_MAX: f64 = 0.4;
const USER_RATIO_MAX: f64 = 0.1;
const START_RATIO_MAX: f64 = 0.1;

/// One comparison.
#[derive(Debug)]
pub(super) struct Row {
    group: String,
    what: &'static str,
    kovar: f64,
    peer: f64,
    target: Target,
}

#[derive(Debug, Clone, Copy)]
enum Target {
    /// kovar's figure over the peer's is at most this.
    RatioMax(f64),
    /// kovar's figure is at least this, whatever the peer's.
    Min(f64),
    /// It only says what the others come from.
    None,
}

impl Row {
    pub(super) fn is_met(&self) -> bool {
        match self.target {
            Target::RatioMax(ratio) => self.kovar <= ratio * self.peer,
            Target::Min(least) => self.kovar >= least,
            Target::None => true,
        }
    }

    pub(super) fn describe(&self) -> String {
        let Self { group, what, kovar, peer, .. } = self;
        format!("{group}: {what}: {} against {}, target {}", whole(*kovar), whole(*peer), self.wanted())
    }

    fn ratio(&self) -> String {
        match self.target {
            Target::RatioMax(_) => format!("{:.3}", self.kovar / self.peer),
            Target::Min(_) | Target::None => String::new(),
        }
    }

    fn wanted(&self) -> String {
        match self.target {
            Target::RatioMax(ratio) => format!("ratio {ratio:.2}"),
            Target::Min(least) => format!("at least {}", whole(least)),
            Target::None => String::new(),
        }
    }
}

/// kovar's depth must be whole, or the rest compares different work.
pub(super) fn rows(kovar: &Figures, peer: &Figures) -> Vec<Row> {
    let mut rows = Vec::new();
    for ((frames, kovar), peer) in DEPTHS.into_iter().zip(&kovar.depths).zip(&peer.depths) {
        let mut add = |what, value: fn(&Depth) -> f64, target| {
            let group = format!("{frames} frames");
            rows.push(Row { group, what, kovar: value(kovar), peer: value(peer), target });
        };
        #[allow(clippy::cast_precision_loss, reason = "a hundred frames")]
        let whole_stack = Target::Min(frames as f64);
        add("kernel, instructions a sample", |it| it.kernel, Target::RatioMax(KERNEL_RATIO_MAX));
        add("user space, instructions a sample", |it| it.user, Target::RatioMax(USER_RATIO_MAX));
        add("frames delivered", |it| it.frames, whole_stack);
        add("samples", |it| it.samples, Target::None);
    }
    rows.push(Row {
        group: "start".to_owned(),
        what: "CPU time until the first sample, instructions",
        kovar: kovar.start,
        peer: peer.start,
        target: Target::RatioMax(START_RATIO_MAX),
    });
    rows
}

/// One group of rows a depth.
pub(super) fn markdown(rows: &[Row]) -> String {
    let mut table = "|  | kovar | OpenTelemetry | ratio | target |\n|---|---:|---:|---:|---:|\n".to_owned();
    let mut group = "";
    for row in rows {
        if row.group != group {
            group = &row.group;
            table += &format!("| **{group}** | | | | |\n");
        }
        let missed = if row.is_met() { "" } else { " missed" };
        table += &format!(
            "| {} | {} | {} | {} | {}{missed} |\n",
            row.what,
            whole(row.kovar),
            whole(row.peer),
            row.ratio(),
            row.wanted(),
        );
    }
    table
}

/// Without decimals, thousands apart.
fn whole(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::figures::tests::figures;
    use super::*;

    #[test]
    fn figures_stand_side_by_side_with_ratio_and_target() {
        let rows = rows(&figures(8000, 2000, 200_000), &figures(40_000, 40_000, 4_000_000));
        let table = markdown(&rows);
        for line in [
            "| **8 frames** | | | | |\n| kernel, instructions a sample | 4,000 | 20,000 | 0.200 | ratio 0.40 |\n",
            "| user space, instructions a sample | 1,000 | 20,000 | 0.050 | ratio 0.10 |\n",
            "| frames delivered | 103 | 103 |  | at least 103 |\n",
            "| **start** | | | | |\n| CPU time until the first sample, instructions | 100,000 | 2,000,000 | 0.050 | ratio 0.10 |\n",
        ] {
            assert!(table.contains(line), "no {line:?} in\n{table}");
        }
        assert!(rows.iter().all(Row::is_met));
    }

    #[test]
    fn a_missed_target_is_said_and_counts() {
        let missed = rows(&figures(20_000, 2000, 500_000), &figures(40_000, 40_000, 4_000_000));
        let names: Vec<String> = missed.iter().filter(|row| !row.is_met()).map(Row::describe).collect();
        assert_eq!(names.len(), 4, "{names:?}");
        assert!(
            names[0].starts_with("8 frames: kernel, instructions a sample: 10,000 against 20,000"),
            "{names:?}"
        );
        assert!(names[3].starts_with("start: "), "{names:?}");
        assert!(markdown(&missed).contains("| 0.500 | ratio 0.40 missed |"));
    }

    #[test]
    fn a_cheap_sample_of_a_stack_that_is_cut_short_is_no_success() {
        let mut short = figures(8, 2, 200);
        short.depths[2].frames = 4.0;
        let rows = rows(&short, &figures(40_000, 40_000, 4_000_000));
        assert!(rows.iter().any(|row| !row.is_met() && row.what == "frames delivered"));
    }
}
