//! One push interval: counts by stack, and the profiles made of them.

use std::time::{SystemTime, UNIX_EPOCH};

use abi::{End, StackKey};
use foldhash::{HashMap, HashMapExt as _};
use model::{ProcessProfile, ProfileBatch, Resource};

use crate::frame::Frames;
use crate::mates::Mates;
use crate::pprof::{Builder, Labels, Span};
use crate::process::{Image, ImageKey, Processes};
use crate::stack::Stacks;
use crate::{Only, Output};

/// The process name that all kernel threads share; their own names stay as the outermost frame.
const KERNEL_NAME: &str = "[kernel]";
/// Cgroup paths kept.
const CGROUPS_MAX: usize = 16_384;

/// Counts since the last push.
#[derive(Debug)]
pub(crate) struct Interval {
    counts: HashMap<StackKey, u64>,
    start_unix_ns: u64,
}

/// Samples of an interval that its profiles lack.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LeftOut {
    /// By `only`.
    pub(crate) filtered: u64,
    /// Their stack or process was let go.
    pub(crate) unknown: u64,
}

/// Cgroup paths and the container ids in them.
#[derive(Debug, Default)]
pub(crate) struct Cgroups {
    paths: HashMap<u64, (String, Option<String>)>,
    mates: Mates,
    /// Paths that found no room.
    pub(crate) dropped: u64,
}

/// Everything that a profile is made of.
pub(crate) struct Sources<'a> {
    pub(crate) stacks: &'a Stacks,
    pub(crate) processes: &'a Processes,
    pub(crate) frames: &'a Frames,
    pub(crate) cgroups: &'a Cgroups,
    pub(crate) period_ns: u64,
    pub(crate) only: &'a Only,
}

impl Interval {
    pub(crate) fn start() -> Self {
        Self { counts: HashMap::new(), start_unix_ns: unix_ns() }
    }

    pub(crate) fn add(&mut self, key: StackKey, count: u64) {
        *self.counts.entry(key).or_default() += count;
    }

    /// Samples added so far.
    pub(crate) fn samples(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Adds up the samples so far whose user stack does not reach the thread's first frame, by reason.
    pub(crate) fn add_incomplete(&self, stacks: &Stacks, by_reason: &mut [u64; End::ALL.len()]) {
        for (key, count) in &self.counts {
            if let Some(stack) = stacks.get(key).filter(|stack| stack.end != End::Root) {
                by_reason[stack.end as usize] += count;
            }
        }
    }

    /// The profiles of this interval until now, and the samples that are not in them.
    pub(crate) fn batch(&self, sources: &Sources<'_>) -> (ProfileBatch, LeftOut) {
        let end_unix_ns = unix_ns().max(self.start_unix_ns + 1);
        let span = Span {
            start_unix_ns: self.start_unix_ns,
            duration_ns: end_unix_ns - self.start_unix_ns,
            period_ns: sources.period_ns,
        };
        let mut left_out = LeftOut::default();
        let mut groups: Vec<(Resource, Builder<'_>)> = Vec::new();
        let mut by_name: HashMap<(Option<String>, String), usize> = HashMap::new();
        // The same for all stacks of an image in one cgroup; `None` when it is not asked for.
        let mut by_image: HashMap<(ImageKey, u64), Option<usize>> = HashMap::new();
        for (key, count) in &self.counts {
            let stack = sources.stacks.get(key);
            let image = stack.and_then(|stack| sources.processes.get(&stack.image));
            let (Some(stack), Some(image)) = (stack, image) else {
                left_out.unknown += count;
                continue;
            };
            let group = *by_image.entry((stack.image, stack.cgroup_id)).or_insert_with(|| {
                let resource = sources.resource(image, stack.cgroup_id);
                sources.wants(image, &resource).then(|| {
                    let name = (resource.container_id.clone(), resource.process_name.clone());
                    *by_name.entry(name).or_insert_with(|| {
                        groups.push((resource, Builder::new(sources.frames, span)));
                        groups.len() - 1
                    })
                })
            });
            let Some(group) = group else {
                left_out.filtered += count;
                continue;
            };
            let thread_name = image.kernel_thread.then_some(image.name.as_str());
            let incomplete = (stack.end != End::Root).then(|| stack.end.name());
            let labels = Labels { pid: image.pid(), thread: thread_name, incomplete };
            groups[group].1.add(&stack.frames, *count, labels);
        }
        let profiles = groups.into_iter().map(|(resource, builder)| {
            let (samples, profile) = builder.finish();
            ProcessProfile { resource, samples, profile }
        });
        (
            ProfileBatch { start_unix_ns: self.start_unix_ns, end_unix_ns, profiles: profiles.collect() },
            left_out,
        )
    }
}

impl Sources<'_> {
    fn resource(&self, image: &Image, cgroup_id: u64) -> Resource {
        let (cgroup_path, container_id) = self.cgroups.paths.get(&cgroup_id).cloned().unwrap_or_default();
        let process_name = if image.kernel_thread { KERNEL_NAME.to_owned() } else { image.name.clone() };
        Resource { cgroup_path, container_id, process_name }
    }

    fn wants(&self, image: &Image, resource: &Resource) -> bool {
        match self.only {
            Only::Everything => true,
            Only::Pid(pid) => image.pid == Some(*pid),
            Only::Container(prefix) => {
                resource.container_id.as_ref().is_some_and(|id| id.starts_with(prefix.as_str()))
            }
        }
    }
}

impl Cgroups {
    /// Notes a cgroup's path, which comes once, at first sight.
    pub(crate) fn insert(&mut self, id: u64, path: String, output: &dyn Output) {
        if self.paths.len() >= CGROUPS_MAX && !self.paths.contains_key(&id) {
            self.dropped += 1;
            return;
        }
        let container_id = output.container_id(&path);
        tracing::debug!(id, path, container_id, "cgroup seen");
        self.paths.insert(id, (path, container_id));
    }

    /// Some processes that run in a cgroup now.
    pub(crate) fn mates(&self, id: u64) -> Vec<u32> {
        self.paths.get(&id).map_or_else(Vec::new, |(path, _)| self.mates.of(id, path))
    }

    /// Once half of the room is used, forgets cgroups that nothing runs in; gives their ids.
    pub(crate) fn forget_unused(&mut self, in_use: impl Fn(u64) -> bool) -> Vec<u64> {
        if self.paths.len() <= CGROUPS_MAX / 2 {
            return Vec::new();
        }
        let gone: Vec<u64> = self.paths.keys().copied().filter(|id| !in_use(*id)).collect();
        for id in &gone {
            self.paths.remove(id);
        }
        gone
    }

    pub(crate) fn len(&self) -> usize {
        self.paths.len()
    }
}

fn unix_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_nanos() as u64)
}
