//! The table of functions: own time and time with everything called from them.

use std::collections::HashSet;

use model::pprof::Profile;

use crate::frame::{FrameId, FrameTable, Locations};
use crate::tree::{value_index, value_ns};

/// The table holds this many functions by own time and as many by total time.
pub(crate) const ROWS_MAX: usize = 200;

/// One function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) frame: FrameId,
    pub(crate) self_ns: u64,
    /// Each sample counts once, however often the function stands in its stack.
    pub(crate) total_ns: u64,
}

/// The heaviest functions, by own time first. Also notes the lines of each frame in the table.
pub(crate) fn top(
    profile: &Profile,
    rows_max: usize,
    table: &mut FrameTable,
    locations: &Locations<'_>,
) -> Vec<Row> {
    let value_index = value_index(profile);
    let count = table.len();
    let mut rows: Vec<Row> =
        (0..count).map(|frame| Row { frame: frame as FrameId, self_ns: 0, total_ns: 0 }).collect();
    let mut last_sample = vec![usize::MAX; count];
    for (number, sample) in profile.sample.iter().enumerate() {
        let Some(ns) = value_ns(sample, value_index) else { continue };
        let mut innermost = None;
        for location in sample.location_id.iter().rev() {
            for &(frame, line) in locations.frames(*location) {
                innermost = Some(frame);
                if last_sample[frame as usize] != number {
                    last_sample[frame as usize] = number;
                    let total_ns = &mut rows[frame as usize].total_ns;
                    *total_ns = total_ns.saturating_add(ns);
                    table.count_line(frame, line, ns);
                }
            }
        }
        if let Some(frame) = innermost {
            let self_ns = &mut rows[frame as usize].self_ns;
            *self_ns = self_ns.saturating_add(ns);
        }
    }
    heaviest(rows, rows_max)
}

fn heaviest(rows: Vec<Row>, rows_max: usize) -> Vec<Row> {
    let mut by_total: Vec<Row> = rows.into_iter().filter(|row| row.total_ns > 0).collect();
    by_total.sort_by(|a, b| b.total_ns.cmp(&a.total_ns).then(a.frame.cmp(&b.frame)));
    let mut by_self = by_total.clone();
    by_self.sort_by(|a, b| b.self_ns.cmp(&a.self_ns).then(b.total_ns.cmp(&a.total_ns)));
    by_total.truncate(rows_max);
    by_self.truncate(rows_max);
    let of_self: HashSet<FrameId> = by_self.iter().map(|row| row.frame).collect();
    by_self.extend(by_total.into_iter().filter(|row| !of_self.contains(&row.frame)));
    by_self
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic::Builder;

    fn rows(profile: &Profile, rows_max: usize) -> Vec<(String, u64, u64)> {
        let mut table = FrameTable::default();
        let locations = Locations::new(profile, &mut table);
        let rows = top(profile, rows_max, &mut table, &locations);
        rows.iter().map(|r| (table.get(r.frame).name.clone(), r.self_ns, r.total_ns)).collect()
    }

    #[test]
    fn recursion_counts_a_sample_once() {
        let mut builder = Builder::default();
        builder.sample(&["main", "walk", "walk", "walk"], 70, "a", None);
        builder.sample(&["main", "walk", "leaf"], 30, "a", None);
        let expected = [("walk", 70, 100), ("leaf", 30, 30), ("main", 0, 100)];
        assert_eq!(rows(&builder.finish(), 10), expected.map(|(n, s, t)| (n.to_owned(), s, t)));
    }

    #[test]
    fn a_function_heavy_by_total_alone_is_in_a_short_table() {
        let mut builder = Builder::default();
        builder.sample(&["main", "x"], 70, "a", None);
        builder.sample(&["main", "y"], 30, "a", None);
        let names: Vec<_> = rows(&builder.finish(), 1).into_iter().map(|r| r.0).collect();
        assert_eq!(names, ["x", "main"]);
    }

    #[test]
    fn own_times_add_up_to_the_whole() {
        let mut builder = Builder::default();
        for i in 0..50 {
            builder.sample(&["main", &format!("f{i}")], 1 + i, "a", None);
        }
        let sum: u64 = rows(&builder.finish(), 100).iter().map(|r| r.1).sum();
        assert_eq!(sum, (1..=50).sum::<u64>());
    }
}
