//! CPU time over the wall clock, in buckets of one width.

use std::collections::BTreeMap;

use crate::query::Bucket;

/// Buckets of one timeline's range, and at most as many again before it; the step is multiplied until they suffice.
const BUCKETS_MAX: i64 = 10_000;
/// An interval longer than this is a mistake, and the end of the record is taken in its place.
const INTERVAL_MAX_MS: i64 = 3_600_000;

/// Adds up values by time.
#[derive(Debug)]
pub(crate) struct Timeline {
    /// 0 for no timeline.
    step_ms: i64,
    first_unix_ms: i64,
    last_unix_ms: i64,
    values: BTreeMap<i64, i64>,
}

impl Timeline {
    /// `data_unix_ms` are the first and last time of the records that will be added.
    pub(crate) fn new(step_ms: u64, from_unix_ms: i64, to_unix_ms: i64, data_unix_ms: (i64, i64)) -> Self {
        let (data_first, data_last) = data_unix_ms;
        let first_unix_ms = from_unix_ms.max(data_first.saturating_sub(INTERVAL_MAX_MS));
        let last_unix_ms = to_unix_ms.min(data_last).max(first_unix_ms);
        let mut step_ms = i64::try_from(step_ms).unwrap_or(i64::MAX);
        let span_ms = last_unix_ms.saturating_sub(first_unix_ms);
        if step_ms > 0 && span_ms / step_ms >= BUCKETS_MAX {
            let times = span_ms / step_ms / BUCKETS_MAX + 1;
            step_ms = step_ms.saturating_mul(times);
        }
        Self { step_ms, first_unix_ms, last_unix_ms, values: BTreeMap::new() }
    }

    /// Spreads `value` evenly over the profile's interval, also over what lies before the range: counted at its
    /// border it would look like a peak. What ends before the range or outlasts it counts at the record's own time,
    /// so that the sum stays right.
    pub(crate) fn add(&mut self, start_unix_ns: i64, duration_ns: i64, newest_unix_ms: i64, value: i64) {
        if self.step_ms == 0 || value == 0 {
            return;
        }
        let (mut start, mut end) = interval(start_unix_ns, duration_ns, newest_unix_ms);
        start = start.max(self.first_unix_ms.saturating_sub(self.lead_ms()));
        end = end.min(self.last_unix_ms.saturating_add(1));
        if start >= end || end <= self.first_unix_ms {
            start = newest_unix_ms.clamp(self.first_unix_ms, self.last_unix_ms);
            end = start.saturating_add(1);
        }
        let length = i128::from(end) - i128::from(start);
        let share = |until: i64| i128::from(value) * (i128::from(until) - i128::from(start)) / length.max(1);
        let (mut at, mut given) = (start.div_euclid(self.step_ms), 0);
        loop {
            let bucket_end = at.saturating_add(1).saturating_mul(self.step_ms).min(end);
            let upto = if bucket_end >= end { i128::from(value) } else { share(bucket_end) };
            let part = i64::try_from(upto - given).unwrap_or(i64::MAX);
            let total = self.values.entry(at).or_insert(0);
            *total = total.saturating_add(part);
            if bucket_end >= end {
                return;
            }
            given = upto;
            at += 1;
        }
    }

    /// How far before the range a profile may begin that belongs to it.
    fn lead_ms(&self) -> i64 {
        INTERVAL_MAX_MS.min(self.step_ms.saturating_mul(BUCKETS_MAX))
    }

    pub(crate) fn finish(self) -> Vec<Bucket> {
        let (Some((first, _)), Some((last, _))) =
            (self.values.first_key_value(), self.values.last_key_value())
        else {
            return Vec::new();
        };
        let bucket = |at: i64| Bucket {
            start_unix_ms: at.saturating_mul(self.step_ms),
            value_ns: self.values.get(&at).copied().unwrap_or(0),
        };
        (*first..=*last).map(bucket).collect()
    }
}

/// The profile's own interval where it agrees with the record's time, else the record's last millisecond.
fn interval(start_unix_ns: i64, duration_ns: i64, newest_unix_ms: i64) -> (i64, i64) {
    let start = start_unix_ns / 1_000_000;
    let duration = duration_ns / 1_000_000;
    let end = start.saturating_add(duration);
    let plausible = start_unix_ns > 0
        && (1..=INTERVAL_MAX_MS).contains(&duration)
        && end.abs_diff(newest_unix_ms) <= INTERVAL_MAX_MS.unsigned_abs();
    if plausible { (start, end) } else { (newest_unix_ms, newest_unix_ms.saturating_add(1)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NS: i64 = 1_000_000;

    fn buckets(timeline: Timeline) -> Vec<(i64, i64)> {
        timeline.finish().iter().map(|bucket| (bucket.start_unix_ms, bucket.value_ns)).collect()
    }

    #[test]
    fn an_interval_is_spread_over_the_buckets_it_covers() {
        let mut timeline = Timeline::new(10, 0, 100, (0, 100));
        timeline.add(15 * NS, 20 * NS, 35, 200);
        assert_eq!(buckets(timeline), [(10, 50), (20, 100), (30, 50)]);
    }

    #[test]
    fn a_profile_that_began_before_the_range_makes_no_peak_at_its_border() {
        let mut timeline = Timeline::new(10, 100, 200, (0, 200));
        timeline.add(70 * NS, 40 * NS, 110, 400);
        timeline.add(110 * NS, 40 * NS, 150, 400);
        assert_eq!(
            buckets(timeline),
            [(70, 100), (80, 100), (90, 100), (100, 100), (110, 100), (120, 100), (130, 100), (140, 100)]
        );
    }

    #[test]
    fn a_fine_step_has_bounded_buckets_before_the_range() {
        let from = 10 * INTERVAL_MAX_MS;
        let mut timeline = Timeline::new(1, from, from + 10, (0, from + 10));
        timeline.add((from + 10 - INTERVAL_MAX_MS) * NS, INTERVAL_MAX_MS * NS, from + 10, 1_000_000);
        let buckets = buckets(timeline);
        assert!(buckets.len() as i64 <= BUCKETS_MAX + 12, "{}", buckets.len());
        assert_eq!(buckets.iter().map(|bucket| bucket.1).sum::<i64>(), 1_000_000);
    }

    #[test]
    fn a_gap_between_intervals_is_buckets_of_zero() {
        let mut timeline = Timeline::new(10, 0, 100, (0, 100));
        timeline.add(0, 0, 5, 1);
        timeline.add(0, 0, 35, 2);
        assert_eq!(buckets(timeline), [(0, 1), (10, 0), (20, 0), (30, 2)]);
    }

    #[test]
    fn a_step_too_fine_for_the_range_is_widened() {
        let mut timeline = Timeline::new(1, 0, 1_000_000, (0, 1_000_000));
        timeline.add(0, 0, 0, 1);
        timeline.add(0, 0, 1_000_000, 1);
        let buckets = buckets(timeline);
        assert!(buckets.len() as i64 <= BUCKETS_MAX + 1, "{}", buckets.len());
        assert_eq!(buckets.iter().map(|bucket| bucket.1).sum::<i64>(), 2);
    }

    proptest! {
        #[test]
        fn the_sum_is_right_whatever_the_times(
            step_ms in any::<u64>(), from in any::<i64>(), span in 0..i64::MAX, data in any::<(i64, i64)>(),
            adds in prop::collection::vec((any::<i64>(), any::<i64>(), any::<i64>(), 0..1_000_000i64), 0..8),
        ) {
            let mut timeline = Timeline::new(step_ms, from, from.saturating_add(span), data);
            let mut total = 0;
            for (start, duration, newest, value) in adds {
                timeline.add(start, duration, newest, value);
                total += value;
            }
            if step_ms != 0 {
                prop_assert_eq!(timeline.finish().iter().map(|bucket| bucket.value_ns).sum::<i64>(), total);
            }
        }
    }
}
