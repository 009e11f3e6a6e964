//! What the kernel sends becomes stacks of frames: unwound ones at once, raw ones when tables are there.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Instant;

use abi::{End, StackKey, frame_in_file};

use super::session::{RECORDS_BURST, RECORDS_PAUSE, Session};
use crate::event::{Event, Raw, Stack};
use crate::frame::{self, FrameId, Place};
use crate::host;
use crate::process::{ImageKey, Seen};
use crate::raw::Completed;
use crate::stack::NewStack;

/// A sample's stack with where it ran.
struct Whole<'a> {
    image: ImageKey,
    cgroup_id: u64,
    kernel: &'a [u64],
    user: &'a [u64],
    end: End,
}

impl Session {
    /// Takes in what the kernel sent: mapping records first, since a stack's mappings are older than it.
    pub(super) fn read_events(&mut self) {
        let mut received = Vec::new();
        self.undecodable += self.sampler.read_events(|event| received.push(event));
        self.read_records();
        let now = Instant::now();
        for event in received {
            match event {
                Event::Cgroup { id, path } => self.cgroups.insert(id, path, self.output.as_ref()),
                Event::Stack(stack) => self.add_stack(&stack),
                Event::Raw(raw) => self.add_raw(raw, now),
            }
        }
        self.tables.poll();
        self.complete_raw(false);
        self.write_layouts();
    }

    /// Applies the kernel's mapping records up to a moment ago.
    fn read_records(&mut self) {
        let read_before = self.recorder.read;
        let Self { recorder, processes, .. } = self;
        let until_ns = recorder.read(|record| processes.record(&record));
        processes.records_applied(until_ns);
        for record in self.recorder.unsettled() {
            if let Some(key) = self.processes.foresee(record) {
                self.tables.drop_layout(&key);
            }
        }
        if self.recorder.read > read_before {
            let now = Instant::now();
            self.records_due =
                (self.records_due.max(now) + RECORDS_PAUSE).min(now + RECORDS_BURST + RECORDS_PAUSE);
        }
    }

    /// Unwinds raw samples whose mappings and tables are there; with `all`, also the others as far as it goes.
    pub(super) fn complete_raw(&mut self, all: bool) {
        let Self { raw, processes, tables, cgroups, .. } = self;
        let mut completed = Vec::new();
        raw.complete(processes, tables, cgroups, all, |sample| completed.push(sample));
        for Completed { raw, user, end } in completed {
            let Stack { key, cgroup_id, kernel, .. } = &raw.stack;
            let image = raw.stack.image_key();
            if end == End::ImageUnknown && self.processes.came_in_vain(&image) {
                self.tables.give_up(&image);
            }
            let whole = Whole { image, cgroup_id: *cgroup_id, kernel, user: &user, end };
            let key = StackKey { hash: whole.hash(), ..*key };
            if self.stacks.touch(&key).is_none() {
                self.insert(key, &whole);
            }
            self.interval.add(key, 1);
            self.last_sample = Instant::now();
        }
    }

    fn add_stack(&mut self, stack: &Stack) {
        self.see(stack, None);
        // Sent again because the kernel's own table forgot it.
        if self.stacks.contains(&stack.key) {
            return;
        }
        let Stack { key, cgroup_id, kernel, user, end, .. } = stack;
        let image = stack.image_key();
        self.insert(*key, &Whole { image, cgroup_id: *cgroup_id, kernel, user, end: *end });
    }

    fn add_raw(&mut self, raw: Box<Raw>, now: Instant) {
        self.see(&raw.stack, Some(raw.time_ns));
        if raw.stack.end == End::ImageUnknown {
            self.processes.tell_again(&raw.stack.image_key(), raw.time_ns);
        }
        self.raw.add(raw, now);
    }

    fn see(&mut self, stack: &Stack, time_ns: Option<u64>) {
        self.processes.see(Seen {
            key: stack.image_key(),
            pid: stack.visible_tgid,
            name: stack.comm.clone(),
            kernel_thread: host::is_kernel_thread(stack.task_flags),
            in_exec: stack.end == End::RegistersUnreadable,
            time_ns,
        });
    }

    fn insert(&mut self, key: StackKey, whole: &Whole<'_>) {
        let mut frames: Vec<FrameId> = Vec::with_capacity(whole.kernel.len() + whole.user.len() + 1);
        let kernel = frame::instructions(whole.kernel);
        frames.extend(kernel.map(|address| self.frames.id(Place::Kernel { address })));
        for frame in whole.user {
            let place = self.processes.place(&whole.image, *frame);
            frames.push(self.frames.id(place));
        }
        // Something ran there, and its frame must not be that of its kernel half.
        if whole.user.is_empty() && whole.end != End::Root {
            frames.push(self.frames.id(Place::Unknown));
        }
        let slots: BTreeSet<u32> =
            whole.user.iter().filter_map(|frame| frame_in_file(*frame)).map(|(slot, _)| slot).collect();
        let new = NewStack {
            image: whole.image,
            cgroup_id: whole.cgroup_id,
            frames: frames.into_boxed_slice(),
            end: whole.end,
            slots: slots.into_iter().collect(),
        };
        self.stacks.insert(key, new);
    }

    /// Gives the kernel the layouts that changed, so that it unwinds by itself from the next sample on.
    pub(super) fn write_layouts(&mut self) {
        for (key, layout) in self.processes.changed_layouts() {
            let written = match layout {
                Some(layout) => self.tables.write_layout(&key, &layout),
                None => {
                    self.tables.drop_layout(&key);
                    Ok(())
                }
            };
            if let Err(error) = written {
                self.report(Err(error));
            }
        }
    }
}

impl Whole<'_> {
    /// Tells stacks of one image apart, as the kernel's own hash does; the two never meet but by chance.
    fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.image.start_time_ns, self.cgroup_id, self.end, self.kernel, self.user).hash(&mut hasher);
        hasher.finish()
    }
}
