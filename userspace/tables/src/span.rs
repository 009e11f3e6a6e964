//! Stretches of code that one entry of one source describes.

use std::ops::Range;

/// Stretches of one executable; a function each, so many times more than any real one has.
pub(crate) const SPANS_MAX: usize = 4 << 20;

/// Where a span's rows come from; the first that knows a place is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    Go,
    EhFrame,
    DebugFrame,
    /// The code itself.
    Code,
}

/// File offsets `start..end` are described at `place` of `source`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) end: u32,
    pub(crate) place: u32,
    pub(crate) source: Source,
}

impl Span {
    pub(crate) fn new(code: Range<u32>, place: u32, source: Source) -> Self {
        Self { start: code.start, end: code.end, place, source }
    }
}

/// Sorts one source's spans and cuts each at the next one's start; of several that start together the last in the
/// section stays.
pub(crate) fn sort(spans: &mut Vec<Span>) {
    spans.retain(|span| span.start < span.end);
    spans.sort_unstable_by_key(|span| (span.start, span.place));
    spans.dedup_by(|later, kept| {
        let same = later.start == kept.start;
        if same {
            *kept = *later;
        }
        same
    });
    let mut next_start = u32::MAX;
    for span in spans.iter_mut().rev() {
        span.end = span.end.min(next_start);
        next_start = span.start;
    }
}

/// Both, each sorted, where `first` is believed: what remains of `second` lies between its spans.
pub(crate) fn merge(first: Vec<Span>, second: Vec<Span>) -> Vec<Span> {
    if first.is_empty() {
        return second;
    }
    if second.is_empty() {
        return first;
    }
    let mut merged = Vec::with_capacity(first.len() + second.len());
    let mut first = first.into_iter().peekable();
    let mut covered = 0;
    for mut span in second {
        while let Some(believed) = first.next_if(|believed| believed.start <= span.start) {
            covered = believed.end;
            merged.push(believed);
        }
        // A span whose first part is covered is dropped: its rows count from its start.
        if span.start < covered {
            continue;
        }
        if let Some(believed) = first.peek() {
            span.end = span.end.min(believed.start);
        }
        merged.push(span);
    }
    merged.extend(first);
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: u32, end: u32, place: u32, source: Source) -> Span {
        Span { start, end, place, source }
    }

    #[test]
    fn of_spans_that_start_together_the_later_entry_stays() {
        let mut spans = vec![
            span(16, 32, 8, Source::EhFrame),
            span(0, 20, 4, Source::EhFrame),
            span(16, 24, 2, Source::EhFrame),
            span(40, 40, 9, Source::EhFrame),
        ];
        sort(&mut spans);
        assert_eq!(spans, [span(0, 16, 4, Source::EhFrame), span(16, 32, 8, Source::EhFrame)]);
    }

    #[test]
    fn a_less_believed_source_fills_only_what_is_left() {
        let go = vec![span(100, 200, 0, Source::Go), span(300, 400, 1, Source::Go)];
        let eh = vec![
            span(0, 110, 0, Source::EhFrame),
            span(150, 250, 1, Source::EhFrame),
            span(250, 260, 2, Source::EhFrame),
            span(400, 500, 3, Source::EhFrame),
        ];
        let merged: Vec<_> = merge(go, eh).iter().map(|span| (span.start, span.end, span.source)).collect();
        assert_eq!(
            merged,
            [
                (0, 100, Source::EhFrame),
                (100, 200, Source::Go),
                (250, 260, Source::EhFrame),
                (300, 400, Source::Go),
                (400, 500, Source::EhFrame),
            ]
        );
    }
}
