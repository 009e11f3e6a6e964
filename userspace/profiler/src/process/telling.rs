//! What the kernel is told of images: layouts that changed, and those that it must not use meanwhile.

use super::Processes;
use super::image::ImageKey;
use super::layout::Layout;
use crate::mapping::Backing;
use crate::recorder::monotonic_ns;
use crate::records::{Body, Mapped, Record};

/// A layout that the kernel lacks is told again after this time: it found no room, or was evicted. Nanoseconds.
const TOLD_AGAIN_NS: u64 = 1_000_000_000;
/// So many samples in a row that come whole for nothing are enough.
const IN_VAIN_MAX: u32 = 16;

impl Processes {
    /// A record that is not applied yet because its time has not settled. Where it puts another file in the place
    /// of one that the kernel knows, gives the image whose layout the kernel must not use any more: a library that
    /// takes another's place changes no count by which a sample could be checked.
    pub(crate) fn foresee(&mut self, record: &Record) -> Option<ImageKey> {
        let Body::Mapped(Mapped { pid, start, end, ref path, inode, .. }) = record.body else {
            return None;
        };
        let Backing::File { .. } = Backing::of(path, inode.unwrap_or_default()) else {
            return None;
        };
        let key = self.timeline.replaced(pid, start, end)?;
        self.foreseen.insert(key);
        self.images.get_mut(&key)?.told.take().map(|_layout| key)
    }

    /// A sample of `time_ns` found that the kernel has no layout of an image whose layout was told a while before:
    /// it is told again.
    pub(crate) fn tell_again(&mut self, key: &ImageKey, time_ns: u64) {
        let Some(image) = self.images.get_mut(key) else {
            return;
        };
        if image.told.is_some() && image.told_ns.saturating_add(TOLD_AGAIN_NS) < time_ns {
            image.told = None;
            self.timeline.changed.insert(*key);
        }
    }

    /// A sample of this image came whole, and what it maps is not known. True when no more such samples should come.
    pub(crate) fn came_in_vain(&mut self, key: &ImageKey) -> bool {
        let Some(image) = self.images.get_mut(key) else {
            return false;
        };
        image.in_vain += 1;
        image.in_vain.is_multiple_of(IN_VAIN_MAX)
    }

    /// Layouts of sampled images that are others than were told last; `None` of images that have ended.
    pub(crate) fn changed_layouts(&mut self) -> Vec<(ImageKey, Option<Layout>)> {
        let now_ns = monotonic_ns();
        let mut layouts: Vec<_> = self.forgotten.drain(..).map(|key| (key, None)).collect();
        let foreseen = &self.foreseen;
        let settled: Vec<ImageKey> =
            self.timeline.changed.extract_if(|key| !foreseen.contains(key)).collect();
        for key in settled {
            let Some(image) = self.images.get_mut(&key) else {
                continue;
            };
            let generation = image.generation.and_then(|id| self.timeline.get(id));
            let running = generation.filter(|generation| generation.known && generation.ended_ns.is_none());
            let layout = running.map(|it| Layout::of(&it.mappings, self.page_bytes, it.checked));
            let told = layout.as_ref().map(|layout| (layout.identity, layout.exec_pages));
            if told != image.told {
                (image.told, image.told_ns, image.in_vain) = (told, now_ns, 0);
                layouts.push((key, layout));
            }
        }
        layouts
    }
}
