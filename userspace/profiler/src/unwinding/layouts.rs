//! Images' layouts in pages, shared by images that map the same.

mod pack;

use std::collections::HashMap;
use std::time::Instant;

use abi::{EXEC_PAGES_UNCHECKED, IMAGES_MAX, Image, VERSION_GIVEN_UP, image_key};

use super::executables::USED_LATELY;
use super::memory::Memory;
use crate::Error;
use crate::process::{ImageKey, Layout};
use pack::{MAPPINGS_MAX, pack, pages_needed};

/// Images whose layouts wait for pages, and mappings of all of them (4 MiB).
const WAITING_MAX: usize = 256;
const WAITING_MAPPINGS_MAX: usize = 131_072;
/// This part of all images or layout pages goes at once when there are too many, so that it does not happen at
/// each new one.
const EVICTED_PART: usize = 64;

/// All layouts that the kernel knows.
#[derive(Debug)]
pub(super) struct Layouts {
    /// By the kernel's key: of two images that share it, the later one counts.
    images: HashMap<u64, Held>,
    /// By version.
    written: HashMap<u32, Written>,
    by_identity: HashMap<u64, u32>,
    waiting: HashMap<u64, (ImageKey, Layout)>,
    last_version: u32,
    images_max: usize,
    pub(super) layouts_written: u64,
    pub(super) layouts_shared: u64,
    /// Times a layout found no room, and the image has none.
    pub(super) without_room: u64,
    /// Layouts with more than [`MAPPINGS_MAX`] mappings.
    pub(super) cut: u64,
    pub(super) images_evicted: u64,
    /// Times an image got a mark instead of a layout.
    pub(super) given_up: u64,
}

#[derive(Debug)]
struct Held {
    start_time_ns: u64,
    version: u32,
    used_at: Instant,
}

/// A layout in pages.
#[derive(Debug)]
struct Written {
    pages: Vec<u32>,
    page: u32,
    entries: u32,
    levels: u32,
    identity: u64,
    images: usize,
}

impl Default for Layouts {
    fn default() -> Self {
        Self {
            images: HashMap::new(),
            written: HashMap::new(),
            by_identity: HashMap::new(),
            waiting: HashMap::new(),
            last_version: 0,
            images_max: IMAGES_MAX as usize,
            layouts_written: 0,
            layouts_shared: 0,
            without_room: 0,
            cut: 0,
            images_evicted: 0,
            given_up: 0,
        }
    }
}

impl Layouts {
    /// Makes a layout known. Without room the image has none, and waits for it.
    pub(super) fn write(
        &mut self,
        key: &ImageKey,
        layout: &Layout,
        memory: &mut Memory,
        now: Instant,
    ) -> Result<(), Error> {
        let image = image_key(key.tgid, key.exec_id);
        if self.images.get(&image).is_some_and(|held| held.start_time_ns > key.start_time_ns) {
            return Ok(());
        }
        self.waiting.remove(&image);
        if !self.images.contains_key(&image) && self.images.len() >= self.images_max {
            self.evict_images(self.images_max / EVICTED_PART + 1, memory, now);
        }
        let Some(version) = self.hold(layout, memory, now) else {
            self.without_room += 1;
            self.forget(image, memory, now);
            self.let_wait(image, key, layout, memory);
            return Ok(());
        };
        if let Err(error) = self.show(image, key, layout.exec_pages, version, memory) {
            self.let_go(version, memory, now);
            return Err(error);
        }
        let held = Held { start_time_ns: key.start_time_ns, version, used_at: now };
        if let Some(old) = self.images.insert(image, held) {
            self.let_go(old.version, memory, now);
        }
        Ok(())
    }

    /// What the image maps cannot be known: it gets a mark instead of a layout, until it gets one.
    pub(super) fn give_up(&mut self, key: &ImageKey, memory: &mut Memory, now: Instant) -> Result<(), Error> {
        let (image, start_time_ns) = (image_key(key.tgid, key.exec_id), key.start_time_ns);
        let is_known = self.images.get(&image).is_some_and(|held| held.start_time_ns >= start_time_ns);
        if is_known || self.images.len() >= self.images_max {
            return Ok(());
        }
        let mark = Image {
            start_time_ns,
            exec_pages: EXEC_PAGES_UNCHECKED,
            version: VERSION_GIVEN_UP,
            ..Image::default()
        };
        memory.kernel.set_image(image, &mark)?;
        self.given_up += 1;
        let held = Held { start_time_ns, version: VERSION_GIVEN_UP, used_at: now };
        if let Some(old) = self.images.insert(image, held) {
            self.let_go(old.version, memory, now);
        }
        Ok(())
    }

    /// The image is gone.
    pub(super) fn drop_image(&mut self, key: &ImageKey, memory: &mut Memory, now: Instant) {
        let image = image_key(key.tgid, key.exec_id);
        if self.waiting.get(&image).is_some_and(|(waiting, _)| waiting == key) {
            self.waiting.remove(&image);
        }
        if self.images.get(&image).is_some_and(|held| held.start_time_ns == key.start_time_ns) {
            self.forget(image, memory, now);
        }
    }

    pub(super) fn used(&mut self, key: &ImageKey, now: Instant) {
        if let Some(held) = self.images.get_mut(&image_key(key.tgid, key.exec_id)) {
            held.used_at = now;
        }
    }

    /// Tries again for images that found no room.
    pub(super) fn retry(&mut self, memory: &mut Memory, now: Instant) -> Result<(), Error> {
        let waiting: Vec<u64> = self.waiting.keys().copied().collect();
        for image in waiting {
            let enough = |(_, layout): &(ImageKey, Layout)| {
                let pages = pages_needed(layout.mappings.len());
                pages <= memory.pool.available() && memory.layout_pages + pages <= memory.layouts_max()
            };
            if self.waiting.get(&image).is_some_and(enough)
                && let Some((key, layout)) = self.waiting.remove(&image)
            {
                self.write(&key, &layout, memory, now)?;
            }
        }
        Ok(())
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn images(&self) -> usize {
        self.images.len()
    }

    /// The version of a layout in pages, one image more held by it; `None` without room.
    fn hold(&mut self, layout: &Layout, memory: &mut Memory, now: Instant) -> Option<u32> {
        if layout.identity != 0
            && let Some(version) = self.by_identity.get(&layout.identity)
            && let Some(written) = self.written.get_mut(version)
        {
            written.images += 1;
            self.layouts_shared += 1;
            return Some(*version);
        }
        let kept = layout.mappings.len().min(MAPPINGS_MAX);
        let needed = pages_needed(kept);
        if memory.layout_pages + needed > memory.layouts_max() {
            let freed = needed.max(memory.layouts_max() / EVICTED_PART);
            self.evict_pages(freed, memory, now);
        }
        let pages = memory.allocate_layout(needed, now)?;
        self.cut += u64::from(kept < layout.mappings.len());
        self.layouts_written += 1;
        let (page, levels) =
            pack(&layout.mappings[..kept], &pages, |page, words| memory.pool.write(page, words));
        let entries = if levels == 0 { kept } else { pages.len() - 1 };
        let version = self.next_version();
        if layout.identity != 0 {
            self.by_identity.insert(layout.identity, version);
        }
        let entries = entries as u32;
        let written = Written { pages, page, entries, levels, identity: layout.identity, images: 1 };
        self.written.insert(version, written);
        Some(version)
    }

    fn show(
        &self,
        image: u64,
        key: &ImageKey,
        exec_pages: u64,
        version: u32,
        memory: &mut Memory,
    ) -> Result<(), Error> {
        let Some(&Written { page, entries, levels, .. }) = self.written.get(&version) else {
            return Ok(());
        };
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        let start_time_ns = key.start_time_ns;
        memory.kernel.set_image(image, &Image { start_time_ns, exec_pages, version, page, entries, levels })
    }

    fn let_wait(&mut self, image: u64, key: &ImageKey, layout: &Layout, memory: &Memory) {
        let waiting: usize = self.waiting.values().map(|(_, layout)| layout.mappings.len()).sum();
        let mappings = layout.mappings.len();
        if self.waiting.len() < WAITING_MAX
            && waiting + mappings <= WAITING_MAPPINGS_MAX
            && pages_needed(mappings) <= memory.layouts_max()
        {
            let layout = Layout { mappings: layout.mappings.clone(), ..*layout };
            self.waiting.insert(image, (*key, layout));
        }
    }

    /// One image fewer holds a layout; its pages go with the last.
    fn let_go(&mut self, version: u32, memory: &mut Memory, now: Instant) {
        let Some(written) = self.written.get_mut(&version) else {
            return;
        };
        written.images -= 1;
        if written.images == 0
            && let Some(written) = self.written.remove(&version)
        {
            if self.by_identity.get(&written.identity) == Some(&version) {
                self.by_identity.remove(&written.identity);
            }
            memory.free_layout(written.pages, now);
        }
    }

    fn forget(&mut self, image: u64, memory: &mut Memory, now: Instant) {
        if let Some(held) = self.images.remove(&image) {
            memory.kernel.remove_image(image);
            self.let_go(held.version, memory, now);
        }
    }

    /// Forgets the images that were not used for longest.
    fn evict_images(&mut self, count: usize, memory: &mut Memory, now: Instant) {
        for image in self.least_recently_used().into_iter().take(count) {
            self.images_evicted += 1;
            self.forget(image, memory, now);
        }
    }

    /// Forgets images that were not used lately until their layouts free so many pages, if they do.
    fn evict_pages(&mut self, pages: usize, memory: &mut Memory, now: Instant) {
        let until = memory.layout_pages.saturating_sub(pages);
        for image in self.least_recently_used() {
            let idle =
                self.images.get(&image).is_some_and(|held| now.duration_since(held.used_at) >= USED_LATELY);
            if !idle || memory.layout_pages <= until {
                return;
            }
            self.images_evicted += 1;
            self.forget(image, memory, now);
        }
    }

    fn least_recently_used(&self) -> Vec<u64> {
        let mut images: Vec<(Instant, u64)> =
            self.images.iter().map(|(image, held)| (held.used_at, *image)).collect();
        images.sort_unstable();
        images.into_iter().map(|(_, image)| image).collect()
    }

    /// Not [`VERSION_GIVEN_UP`], and none that a layout has.
    fn next_version(&mut self) -> u32 {
        loop {
            self.last_version = self.last_version.wrapping_add(1);
            if self.last_version != VERSION_GIVEN_UP && !self.written.contains_key(&self.last_version) {
                return self.last_version;
            }
        }
    }
}

#[cfg(test)]
mod tests;
