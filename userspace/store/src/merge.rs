//! Merges pprof profiles of CPU time by content, whatever ids their messages have.

mod output;
mod resolve;
mod tables;
#[cfg(test)]
mod tests;

use model::pprof;

use output::Output;
pub use output::TRUNCATED;
use resolve::{Resolver, string};
use tables::{Reject, Tables};

/// File name of the mapping that kernel functions belong to.
pub const KERNEL_MAPPING: &str = "[kernel]";
/// The one sample type that is merged; samples of profiles without it are skipped.
pub const SAMPLE_TYPE: &str = "cpu";
/// The unit of [`SAMPLE_TYPE`].
pub const SAMPLE_UNIT: &str = "nanoseconds";

/// Which frames of a stack to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Frames {
    #[default]
    All,
    /// Only locations of the mapping `[kernel]`.
    Kernel,
    /// Only locations outside of the mapping `[kernel]`.
    User,
}

/// How large a merged profile may get. Stacks over a limit are merged into one frame named [`TRUNCATED`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Distinct pairs of stack and label set.
    pub stacks_max: usize,
    /// Frames of all distinct stacks, plus one for each distinct function, label and line of a location.
    pub frames_max: usize,
    /// Distinct strings, with 24 bytes for each string itself.
    pub string_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { stacks_max: 200_000, frames_max: 8_000_000, string_bytes_max: 32 << 20 }
    }
}

/// What one [`Merger::add`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Added {
    /// Value that the merged profile grew by.
    pub value_ns: i64,
    /// Samples that make no sense: an index out of range, no value, a negative value.
    pub skipped_samples: u64,
}

/// Collects profiles into one. Nothing in a profile makes it panic.
#[derive(Debug)]
pub struct Merger {
    tables: Tables,
    truncated_ns: Option<i64>,
    skipped_samples: u64,
    period: i64,
    /// Earliest start and latest end, nanoseconds since the epoch.
    span_unix_ns: Option<(i64, i64)>,
    stack: Vec<u32>,
}

impl Default for Merger {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl Merger {
    pub fn new(limits: Limits) -> Self {
        Self {
            tables: Tables::new(limits),
            truncated_ns: None,
            skipped_samples: 0,
            period: 0,
            span_unix_ns: None,
            stack: Vec::new(),
        }
    }

    /// Adds every sample of `profile`, with `extra_labels` in place of its own labels of the same names.
    /// A sample that `keep` leaves without frames is not merged; one that has no frames to begin with is, under
    /// [`Frames::All`].
    pub fn add(&mut self, profile: &pprof::Profile, extra_labels: &[(&str, &str)], keep: Frames) -> Added {
        let mut added = Added::default();
        let value_at = value_index(profile);
        let mut resolver = Resolver::new(profile, keep);
        for sample in &profile.sample {
            match value_at.ok_or(Reject::Invalid).and_then(|at| value(sample, at)) {
                Ok(value) => match self.add_sample(&mut resolver, sample, value, extra_labels, keep) {
                    Ok(merged) => added.value_ns = added.value_ns.saturating_add(merged),
                    Err(Skipped) => added.skipped_samples += 1,
                },
                Err(_) => added.skipped_samples += 1,
            }
        }
        self.skipped_samples = self.skipped_samples.saturating_add(added.skipped_samples);
        if value_at.is_some() {
            self.note_time(profile);
        }
        added
    }

    /// Whether a limit was hit, so that the profile has a stack named [`TRUNCATED`].
    pub fn truncated(&self) -> bool {
        self.truncated_ns.is_some()
    }

    /// Samples that made no sense, of all profiles added.
    pub fn skipped_samples(&self) -> u64 {
        self.skipped_samples
    }

    /// The merged profile, samples largest first. Mappings start at address 0 and addresses are offsets in
    /// their files.
    pub fn finish(self) -> pprof::Profile {
        let mut profile = Output::new(&self.tables).write(self.truncated_ns);
        profile.period = self.period;
        if let Some((start, end)) = self.span_unix_ns {
            profile.time_nanos = start;
            profile.duration_nanos = end.saturating_sub(start);
        }
        profile
    }

    /// The value merged, 0 when `keep` leaves nothing.
    fn add_sample<'a>(
        &mut self,
        resolver: &mut Resolver<'a>,
        sample: &'a pprof::Sample,
        value: i64,
        extra_labels: &[(&str, &str)],
        keep: Frames,
    ) -> Result<i64, Skipped> {
        if self.tables.stacks_full() {
            self.tables.close();
        }
        self.stack.clear();
        self.stack.push(0);
        let frames = resolver.frames(&mut self.tables, sample, &mut self.stack);
        if frames == Ok(()) && self.stack.len() == 1 && keep != Frames::All {
            return Ok(0);
        }
        let merged = match (frames, resolver.labels(&mut self.tables, sample, extra_labels)) {
            (Err(Reject::Invalid), _) | (_, Err(Reject::Invalid)) => return Err(Skipped),
            (Ok(()), Ok(labels)) => {
                self.stack[0] = labels;
                self.tables.stack(&self.stack, value)
            }
            _ => Err(Reject::Full),
        };
        if merged.is_err() {
            self.truncated_ns = Some(self.truncated_ns.unwrap_or(0).saturating_add(value));
        }
        Ok(value)
    }

    fn note_time(&mut self, profile: &pprof::Profile) {
        if self.period == 0 {
            self.period = profile.period.max(0);
        }
        if profile.time_nanos > 0 {
            let end = profile.time_nanos.saturating_add(profile.duration_nanos.max(0));
            let (first, last) = self.span_unix_ns.unwrap_or((profile.time_nanos, end));
            self.span_unix_ns = Some((first.min(profile.time_nanos), last.max(end)));
        }
    }
}

struct Skipped;

/// The CPU time of a profile, without its negative values.
pub fn total_ns(profile: &pprof::Profile) -> i64 {
    let Some(at) = value_index(profile) else { return 0 };
    let values = profile.sample.iter().filter_map(|sample| value(sample, at).ok());
    values.fold(0, i64::saturating_add)
}

fn value_index(profile: &pprof::Profile) -> Option<usize> {
    profile.sample_type.iter().position(|kind| {
        string(profile, kind.r#type) == Ok(SAMPLE_TYPE) && string(profile, kind.unit) == Ok(SAMPLE_UNIT)
    })
}

fn value(sample: &pprof::Sample, at: usize) -> Result<i64, Reject> {
    sample.value.get(at).copied().filter(|value| *value >= 0).ok_or(Reject::Invalid)
}
