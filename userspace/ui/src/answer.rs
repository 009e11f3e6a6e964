//! The answer of `/api/v1/profile`: flame graph, table, timeline and series of one read of the store.

use std::collections::HashMap;

use serde::Serialize;
use store::{Selection, SeriesTotal};

use crate::frame::{Frame, FrameId, FrameTable, Locations};
use crate::query::Request;
use crate::top::{self, ROWS_MAX};
use crate::tree::{Folded, NODES_MAX, SHARE_MIN_DIVISOR, Tree};

/// Most series in an answer; the rest is one sum.
pub(crate) const SERIES_MAX: usize = 2_000;

/// The JSON body; ui/API.md describes it.
#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    pub(crate) from_unix_ms: i64,
    pub(crate) to_unix_ms: i64,
    /// CPU time of what the filters let through.
    pub(crate) total_ns: u64,
    /// CPU time of everything in the range.
    pub(crate) machine_ns: u64,
    /// CPU time that one sample stands for; 0 when not known.
    pub(crate) period_ns: i64,
    pub(crate) truncated: bool,
    pub(crate) skipped_records: u64,
    pub(crate) skipped_samples: u64,
    pub(crate) folded: Folded,
    pub(crate) frames: Vec<Frame>,
    /// Frame, parent (-1 for the root), own ns, total ns; a parent stands before its children.
    pub(crate) nodes: Vec<(u32, i64, u64, u64)>,
    /// Frame, own ns, total ns; by own time.
    pub(crate) top: Vec<(u32, u64, u64)>,
    pub(crate) timeline: Timeline,
    pub(crate) series: Vec<Series>,
    pub(crate) series_omitted: SeriesOmitted,
}

/// CPU time over time.
#[derive(Debug, Serialize)]
pub(crate) struct Timeline {
    pub(crate) step_ms: i64,
    pub(crate) start_unix_ms: Vec<i64>,
    pub(crate) value_ns: Vec<i64>,
}

/// One series of the range, whatever the filters.
#[derive(Debug, Serialize)]
pub(crate) struct Series {
    pub(crate) service: String,
    pub(crate) container: String,
    pub(crate) process: String,
    pub(crate) value_ns: u64,
}

/// The series that are not listed.
#[derive(Debug, Default, Serialize)]
pub(crate) struct SeriesOmitted {
    pub(crate) count: u64,
    pub(crate) value_ns: u64,
}

impl Answer {
    /// Computes the answer from one selection.
    pub(crate) fn new(request: &Request, selection: &Selection) -> Self {
        let profile = &selection.profile;
        let mut table = FrameTable::default();
        let locations = Locations::new(profile, &mut table);
        let tree = Tree::build(profile, request.group, &mut table, &locations);
        let rows = top::top(profile, ROWS_MAX, &mut table, &locations);
        let (nodes, folded) = tree.prune(&mut table, SHARE_MIN_DIVISOR, NODES_MAX);
        table.settle_lines();
        let mut used = UsedFrames::default();
        let nodes = nodes
            .iter()
            .map(|n| (used.index(n.frame), n.parent.map_or(-1, i64::from), n.self_ns, n.total_ns))
            .collect();
        let top = rows.iter().map(|row| (used.index(row.frame), row.self_ns, row.total_ns)).collect();
        let machine_ns = selection.series.iter().map(value_ns).fold(0, u64::saturating_add);
        let listed = selection.series.len().min(SERIES_MAX);
        let (shown, omitted) = selection.series.split_at(listed);
        Self {
            from_unix_ms: request.from_unix_ms,
            to_unix_ms: request.to_unix_ms,
            total_ns: tree.total_ns(),
            machine_ns,
            period_ns: profile.period,
            truncated: selection.truncated,
            skipped_records: selection.skipped_records,
            skipped_samples: selection.skipped_samples,
            folded,
            frames: used.order.iter().map(|id| table.get(*id).clone()).collect(),
            nodes,
            top,
            timeline: Timeline {
                step_ms: request.step_ms,
                start_unix_ms: selection.timeline.iter().map(|b| b.start_unix_ms).collect(),
                value_ns: selection.timeline.iter().map(|b| b.value_ns).collect(),
            },
            series: shown.iter().map(Series::from).collect(),
            series_omitted: SeriesOmitted {
                count: omitted.len() as u64,
                value_ns: omitted.iter().map(value_ns).fold(0, u64::saturating_add),
            },
        }
    }
}

impl From<&SeriesTotal> for Series {
    fn from(total: &SeriesTotal) -> Self {
        let label = |name: &str| {
            let found = total.labels.iter().find(|(label, _)| label == name);
            found.map_or_else(String::new, |(_, value)| value.clone())
        };
        Self {
            service: label("service_name"),
            container: label("container_id"),
            process: label("process_name"),
            value_ns: value_ns(total),
        }
    }
}

fn value_ns(total: &SeriesTotal) -> u64 {
    u64::try_from(total.value_ns).unwrap_or(0)
}

#[derive(Debug, Default)]
struct UsedFrames {
    order: Vec<FrameId>,
    index: HashMap<FrameId, u32>,
}

impl UsedFrames {
    fn index(&mut self, id: FrameId) -> u32 {
        *self.index.entry(id).or_insert_with(|| {
            self.order.push(id);
            self.order.len() as u32 - 1
        })
    }
}

#[cfg(test)]
mod tests {
    use store::Bucket;

    use super::*;
    use crate::synthetic::Builder;

    #[test]
    fn frames_of_the_tree_and_the_table_are_shared_and_complete() {
        let mut builder = Builder::default();
        builder.sample(&["main", "work"], 90, "a", None);
        builder.sample(&["main"], 10, "a", None);
        let labels = |process: &str| vec![("process_name".to_owned(), process.to_owned())];
        let selection = Selection {
            profile: builder.finish(),
            series: vec![
                SeriesTotal { labels: labels("a"), value_ns: 100 },
                SeriesTotal { labels: labels("b"), value_ns: 300 },
            ],
            timeline: vec![Bucket { start_unix_ms: 5, value_ns: 100 }],
            ..Selection::default()
        };
        let request = Request::parse(&[], 1_700_000_000_000).unwrap();
        let answer = Answer::new(&request, &selection);
        assert_eq!((answer.total_ns, answer.machine_ns), (100, 400));
        let names: Vec<_> = answer.frames.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(names, ["all", "main", "work"]);
        assert_eq!(answer.nodes, [(0, -1, 0, 100), (1, 0, 10, 100), (2, 1, 90, 90)]);
        assert_eq!(answer.top, [(2, 90, 90), (1, 10, 100)]);
        assert_eq!(answer.series[1].process, "b");
        assert_eq!(answer.timeline.value_ns, [100]);
    }

    #[test]
    fn series_over_the_limit_become_one_sum() {
        let series =
            (0..SERIES_MAX as i64 + 5).map(|_| SeriesTotal { labels: Vec::new(), value_ns: 2 }).collect();
        let selection = Selection { series, ..Selection::default() };
        let answer = Answer::new(&Request::parse(&[], 1_700_000_000_000).unwrap(), &selection);
        assert_eq!((answer.series.len(), answer.series_omitted.count), (SERIES_MAX, 5));
        assert_eq!(answer.series_omitted.value_ns, 10);
    }
}
