//! Layouts of images: written, shared, refused and taken back.

use std::time::Duration;

use abi::{EXECUTABLE_EVICTED, EXECUTABLE_READY, MAPPING_FILE, Mapping, PAGE_BYTES};

use super::super::fake::{Bench, PAGES};
use super::*;
use crate::pages::QUARANTINE;

const MIB: u64 = 1 << 20;
/// A quarter of the 255 pages of 1 MiB.
const LAYOUT_PAGES: usize = 63;

fn key(tgid: u32, start_time_ns: u64) -> ImageKey {
    ImageKey { tgid, exec_id: 2, start_time_ns }
}

fn mapping(index: u64) -> Mapping {
    let start = 0x5555_0000_0000 + index * 0x3000;
    let (file_offset, executable) = (index as u32 * 0x1000, index as u32 + 1);
    Mapping { start, end: start + 0x2000, file_offset, executable, kind: MAPPING_FILE, reserved: 0 }
}

fn layout(mappings: u64, identity: u64) -> Layout {
    Layout { mappings: (0..mappings).map(mapping).collect(), exec_pages: 2 * mappings, identity }
}

/// The image as the kernel has it.
fn image(bench: &Bench, tgid: u32) -> Option<Image> {
    bench.maps().images.get(&image_key(tgid, 2)).copied()
}

fn layout_pages(bench: &Bench) -> usize {
    bench.tables.metrics().layout_bytes as usize / PAGE_BYTES
}

#[test]
fn each_address_of_a_layout_leads_to_its_mapping_whether_it_takes_one_page_or_several() {
    for (count, levels, pages) in [(0, 0, 0), (1, 0, 1), (128, 0, 1), (129, 1, 3), (1000, 1, 9)] {
        let mut bench = Bench::new(MIB);
        bench.tables.write_layout(&key(1, 5), &layout(count, 0)).unwrap();
        let image = image(&bench, 1).unwrap();
        assert_eq!((image.start_time_ns, image.exec_pages, image.levels), (5, 2 * count, levels));
        assert_eq!(layout_pages(&bench), pages);
        let maps = bench.maps();
        let find = |address| unwind::find_mapping(&*maps, &image, address);
        for expected in (0..count).map(mapping) {
            assert_eq!(find(expected.start), Some(expected));
            assert_eq!(find(expected.end - 1), Some(expected));
            assert_eq!(find(expected.end), None);
        }
        assert_eq!(find(mapping(0).start - 1), None);
        assert_eq!(find(mapping(count).start), None);
    }
}

#[test]
fn an_image_that_is_given_up_has_a_mark_until_it_gets_a_layout_or_goes() {
    let mut bench = Bench::new(MIB);
    bench.tables.give_up(&key(1, 5));
    let mark = image(&bench, 1).unwrap();
    assert_eq!(
        (mark.start_time_ns, mark.version, mark.exec_pages),
        (5, VERSION_GIVEN_UP, EXEC_PAGES_UNCHECKED)
    );
    bench.tables.give_up(&key(1, 9));
    assert_eq!(image(&bench, 1).unwrap().start_time_ns, 9, "a reused process id");
    bench.tables.write_layout(&key(1, 9), &layout(3, 0)).unwrap();
    let known = image(&bench, 1).unwrap();
    bench.tables.give_up(&key(1, 9));
    assert_eq!((image(&bench, 1), known.entries), (Some(known), 3), "what is known stays");
    assert_eq!(bench.tables.metrics().images_given_up, 2);
    bench.tables.give_up(&key(2, 5));
    bench.tables.drop_layout(&key(2, 5));
    assert_eq!(image(&bench, 2), None);
}

#[test]
fn mappings_beyond_the_limit_are_left_out_and_counted() {
    let mut bench = Bench::new(8 * MIB);
    let most = MAPPINGS_MAX as u64;
    bench.tables.write_layout(&key(1, 5), &layout(most + 10, 0)).unwrap();
    let image = image(&bench, 1).unwrap();
    assert_eq!((image.entries, bench.tables.metrics().layouts_cut), (256, 1));
    let maps = bench.maps();
    let find = |index| unwind::find_mapping(&*maps, &image, mapping(index).start);
    assert_eq!((find(most - 1), find(most)), (Some(mapping(most - 1)), None));
}

#[test]
fn a_layout_that_changes_gets_another_version_and_its_old_pages_go_into_quarantine() {
    let mut bench = Bench::new(MIB);
    bench.tables.write_layout(&key(1, 5), &layout(10, 0)).unwrap();
    let before = image(&bench, 1).unwrap();
    bench.tables.write_layout(&key(1, 5), &layout(11, 0)).unwrap();
    let after = image(&bench, 1).unwrap();
    assert!(before.version != 0 && after.version != 0 && before.version != after.version);
    assert_ne!(before.page, after.page);
    assert_eq!(layout_pages(&bench), 1);
    assert_eq!(bench.tables.metrics().quarantine_bytes, PAGE_BYTES as u64);
}

#[test]
fn images_that_map_the_same_share_pages_which_go_with_the_last_of_them() {
    let mut bench = Bench::new(MIB);
    for tgid in 1..=50 {
        bench.tables.write_layout(&key(tgid, 5), &layout(100, 9)).unwrap();
    }
    bench.tables.write_layout(&key(60, 5), &layout(100, 8)).unwrap();
    assert_eq!(layout_pages(&bench), 2);
    let first = image(&bench, 1).unwrap();
    assert_eq!(image(&bench, 50).unwrap(), first);
    assert_ne!(image(&bench, 60).unwrap().page, first.page);
    // Written again with the same mappings, it is the same layout.
    bench.tables.write_layout(&key(1, 5), &layout(100, 9)).unwrap();
    assert_eq!(image(&bench, 1).unwrap(), first);
    for tgid in 1..50 {
        bench.tables.drop_layout(&key(tgid, 5));
    }
    assert_eq!((layout_pages(&bench), image(&bench, 1)), (2, None));
    bench.tables.drop_layout(&key(50, 5));
    assert_eq!((layout_pages(&bench), bench.maps().images.len()), (1, 1));
    // The identity's pages are gone: it is written anew.
    bench.tables.write_layout(&key(70, 5), &layout(100, 9)).unwrap();
    assert_ne!(image(&bench, 70).unwrap().version, first.version);
    assert_eq!((bench.tables.metrics().layouts_written, layout_pages(&bench)), (3, 2));
}

#[test]
fn an_image_is_neither_replaced_nor_dropped_by_an_older_one_of_its_pid() {
    let mut bench = Bench::new(MIB);
    bench.tables.write_layout(&key(1, 5), &layout(3, 0)).unwrap();
    bench.tables.write_layout(&key(1, 9), &layout(4, 0)).unwrap();
    bench.tables.write_layout(&key(1, 5), &layout(5, 0)).unwrap();
    bench.tables.drop_layout(&key(1, 5));
    let now = image(&bench, 1).unwrap();
    assert_eq!((now.start_time_ns, now.entries, layout_pages(&bench)), (9, 4, 1));
}

#[test]
fn a_layout_that_the_kernel_refuses_leaves_the_old_one_and_no_page_behind() {
    let mut bench = Bench::new(MIB);
    bench.tables.write_layout(&key(1, 5), &layout(3, 0)).unwrap();
    bench.maps().refuses_images = true;
    assert!(bench.tables.write_layout(&key(1, 5), &layout(300, 7)).is_err());
    assert_eq!((image(&bench, 1).unwrap().entries, layout_pages(&bench)), (3, 1));
}

#[test]
fn layouts_have_at_most_a_quarter_and_an_image_without_room_has_none_until_there_is() {
    let mut bench = Bench::new(MIB);
    for tgid in 1..=LAYOUT_PAGES as u32 {
        bench.tables.write_layout(&key(tgid, 5), &layout(1, 0)).unwrap();
    }
    bench.tables.write_layout(&key(100, 5), &layout(1, 0)).unwrap();
    assert_eq!((image(&bench, 100), bench.tables.metrics().layouts_without_room), (None, 1));
    // Nor has one whose new mappings find no room: the old ones are wrong.
    bench.tables.write_layout(&key(1, 5), &layout(129, 0)).unwrap();
    assert_eq!((image(&bench, 1), bench.tables.metrics().layouts_without_room), (None, 2));
    bench.tables.poll();
    assert_eq!(
        image(&bench, 100).map(|image| image.entries),
        Some(1),
        "one page was left by the image before"
    );
    assert_eq!(image(&bench, 1), None);
    bench.tables.drop_layout(&key(2, 5));
    bench.tables.drop_layout(&key(3, 5));
    bench.tables.drop_layout(&key(4, 5));
    bench.tables.poll();
    assert_eq!(image(&bench, 1).map(|image| image.entries), Some(2));
    assert_eq!((layout_pages(&bench), bench.tables.metrics().images_evicted), (LAYOUT_PAGES, 0));
}

#[test]
fn images_not_used_lately_give_their_pages_to_new_ones() {
    let mut bench = Bench::new(MIB);
    for tgid in 1..=LAYOUT_PAGES as u32 {
        bench.tables.write_layout(&key(tgid, 5), &layout(1, 0)).unwrap();
    }
    bench.advance(USED_LATELY);
    bench.tables.poll();
    bench.tables.used_image(&key(1, 5));
    bench.tables.write_layout(&key(100, 5), &layout(1, 0)).unwrap();
    assert!(image(&bench, 100).is_some() && image(&bench, 1).is_some());
    assert_eq!((bench.tables.metrics().images_evicted, bench.maps().images.len()), (1, LAYOUT_PAGES));
}

#[test]
fn when_there_are_too_many_images_the_least_recently_used_go() {
    let mut bench = Bench::new(MIB);
    bench.tables.layouts.images_max = 100;
    for tgid in 1..=100 {
        bench.tables.write_layout(&key(tgid, 5), &layout(1, 9)).unwrap();
        bench.advance(Duration::from_millis(1));
    }
    bench.tables.poll();
    bench.tables.used_image(&key(1, 5));
    bench.tables.write_layout(&key(101, 5), &layout(1, 9)).unwrap();
    assert!(image(&bench, 1).is_some() && image(&bench, 101).is_some());
    assert_eq!([2, 3, 4].map(|tgid| image(&bench, tgid).is_some()), [false, false, true]);
    assert_eq!(bench.tables.metrics().images_evicted, 2);
}

#[test]
fn tables_leave_room_for_layouts_and_give_way_to_them_up_to_a_quarter_even_when_used() {
    let mut bench = Bench::new(MIB);
    for slot in 1..=24 {
        bench.ready(slot, 10);
        bench.advance(Duration::from_millis(1));
    }
    let mut evicted = 0;
    for tgid in 1..=LAYOUT_PAGES as u32 {
        bench.tables.write_layout(&key(tgid, 5), &layout(1, 0)).unwrap();
        assert!(image(&bench, tgid).is_some(), "image {tgid}");
        let metrics = bench.tables.metrics();
        assert!(metrics.evictions - evicted <= 1, "no more tables go than are needed");
        evicted = metrics.evictions;
        bench.advance(QUARANTINE);
        bench.tables.poll();
    }
    assert_eq!((evicted, bench.tables.metrics().ready), (5, 19));
    assert_eq!(bench.tables.state(1), EXECUTABLE_EVICTED);
    assert_eq!(bench.tables.state(24), EXECUTABLE_READY);
    // Layouts have their part: nothing more is kept free of tables.
    bench.want(50, &format!("{PAGES} 2"));
    bench.until_built(25);
    assert_eq!(bench.tables.state(50), EXECUTABLE_READY);
}

#[test]
fn what_waits_for_room_is_bounded() {
    let mut bench = Bench::new(MIB);
    for tgid in 1..=2000 {
        bench.tables.write_layout(&key(tgid, 5), &layout(100, 0)).unwrap();
    }
    assert_eq!(bench.tables.layouts.waiting(), WAITING_MAX);
    let mut bench = Bench::new(64 * MIB);
    for tgid in 1..=100 {
        bench.tables.write_layout(&key(tgid, 5), &layout(MAPPINGS_MAX as u64, 0)).unwrap();
    }
    assert_eq!(bench.tables.layouts.waiting(), WAITING_MAPPINGS_MAX / MAPPINGS_MAX);
    // A layout that can never have room waits for nothing.
    let mut bench = Bench::new(MIB);
    bench.tables.write_layout(&key(1, 5), &layout(MAPPINGS_MAX as u64, 0)).unwrap();
    assert_eq!(bench.tables.layouts.waiting(), 0);
}

#[test]
fn a_version_is_neither_0_nor_that_of_another_layout_after_they_have_all_been_used() {
    let mut bench = Bench::new(MIB);
    bench.tables.write_layout(&key(1, 5), &layout(1, 0)).unwrap();
    bench.tables.layouts.last_version = u32::MAX;
    bench.tables.write_layout(&key(2, 5), &layout(1, 0)).unwrap();
    assert_eq!([1, 2].map(|tgid| image(&bench, tgid).unwrap().version), [1, 2]);
}
