//! Tests of the module `mappings`: what it says of every address and moment, against a model that keeps all.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::executable::Binary;

const PAGE: u64 = 4096;
const PAGES: u64 = 12;
const LATEST_NS: u64 = u64::MAX - 1;

fn file(slot: u32) -> Target {
    Target::Binary(Arc::new(Binary::for_test(slot.into(), slot)))
}

fn area(pages: std::ops::Range<u64>, file_offset: u64, target: Target, from_ns: u64) -> Area {
    let (start, end) = (pages.start * PAGE, pages.end * PAGE);
    Area { start, end, file_offset, target, counted: true, from_ns, to_ns: u64::MAX }
}

/// Slot and file offset that an address shows at a moment.
fn shown(mappings: &Mappings, time_ns: u64, page: u64) -> Shows {
    let area = mappings.at(time_ns, page * PAGE + 7)?;
    match &area.target {
        Target::Binary(binary) => Some((binary.slot, area.file_offset + (page * PAGE - area.start))),
        Target::Anonymous => Some((0, 0)),
        Target::Slow(_) | Target::Unopened(_) | Target::Opaque => None,
    }
}

fn is_ordered(mappings: &Mappings) -> bool {
    let follows = |pair: &[Area]| pair[0].end <= pair[1].start;
    mappings.current().windows(2).all(follows) && mappings.current().iter().all(|area| area.start < area.end)
}

#[test]
fn a_mapping_over_another_replaces_the_part_that_it_covers() {
    let mut mappings = Mappings::default();
    mappings.map(area(0..6, 0, file(1), 10));
    mappings.map(area(2..4, 0, file(2), 20));
    assert_eq!(shown(&mappings, 25, 1), Some((1, PAGE)));
    assert_eq!(shown(&mappings, 25, 3), Some((2, PAGE)));
    assert_eq!(shown(&mappings, 25, 4), Some((1, 4 * PAGE)));
    assert_eq!(shown(&mappings, 15, 3), Some((1, 3 * PAGE)), "a sample of before sees what was there");
    assert_eq!(shown(&mappings, 5, 3), None);
}

#[test]
fn what_proc_does_not_show_any_more_ends_and_what_it_adds_begins() {
    let (one, two) = (file(1), file(2));
    let mut mappings = Mappings::default();
    mappings.map(area(0..4, 0, one.clone(), 10));
    assert!(!mappings.replace(20, 1, vec![area(0..4, 0, one.clone(), 20)]), "it is the same");
    assert!(mappings.replace(30, 1, vec![area(0..2, 0, one, 30), area(8..9, 0, two, 30)]));
    assert_eq!(shown(&mappings, 29, 3), Some((1, 3 * PAGE)));
    assert_eq!(shown(&mappings, 31, 3), None);
    assert_eq!(shown(&mappings, 12, 8), Some((2, 0)), "it may have been there all the time");
    assert_eq!(shown(&mappings, 31, 1), Some((1, PAGE)));
}

#[test]
fn a_record_of_before_the_last_look_at_proc_changes_nothing_now() {
    let mut mappings = Mappings::default();
    mappings.replace(30, 1, vec![area(0..2, 0, file(1), 30)]);
    assert_eq!(mappings.map(area(0..4, 0, file(2), 20)), Change::None);
    assert_eq!(shown(&mappings, 31, 1), Some((1, PAGE)));
    assert_eq!(shown(&mappings, 31, 3), None);
    assert_eq!(shown(&mappings, 25, 3), Some((2, 3 * PAGE)));
}

#[test]
fn generated_code_that_grows_page_by_page_stays_one_range() {
    let mut mappings = Mappings::default();
    for page in 0..5000 {
        mappings.map(area(page..page + 1, 0, Target::Anonymous, page + 1));
    }
    assert!(mappings.len() <= JOIN_FROM, "{}", mappings.len());
    assert_eq!(shown(&mappings, 9999, 4999), Some((0, 0)));
}

#[test]
fn what_is_over_for_long_is_not_kept() {
    let (mut mappings, second) = (Mappings::default(), 1_000_000_000);
    for turn in 1..=50_000u64 {
        mappings.map(area(0..1, 0, file(turn as u32 % 2 + 1), turn * second / 1000));
    }
    assert!(mappings.len() <= PAST_MAX + 1, "{}", mappings.len());
}

#[test]
fn there_is_a_limit_to_what_one_process_can_map() {
    let mut mappings = Mappings::default();
    let target = file(1);
    let map =
        |mappings: &mut Mappings, page: u64| mappings.map(area(page * 2..page * 2 + 1, 0, target.clone(), 1));
    for page in 0..MAPPINGS_MAX as u64 {
        assert_eq!(map(&mut mappings, page), Change::Changed);
    }
    assert_eq!(map(&mut mappings, MAPPINGS_MAX as u64), Change::Full);
}

/// One thing that happens: a mapping, or a look at /proc after some pages are gone.
#[derive(Debug, Clone)]
enum Step {
    Map { start: u64, pages: u64, slot: u32, offset: u64 },
    Unmap { start: u64, pages: u64 },
}

impl Step {
    /// What each page that is mapped shows: slot and file offset.
    fn shows(&self) -> Vec<(u64, (u32, u64))> {
        let Self::Map { start, pages, slot, offset } = *self else {
            return Vec::new();
        };
        let offset = |page| if slot == 0 { 0 } else { (offset + page) * PAGE };
        (0..pages).map(|page| (start + page, (slot, offset(page)))).collect()
    }
}

fn step() -> impl Strategy<Value = Step> {
    let range = || (0..PAGES, 1..5u64);
    prop_oneof![
        4 => (range(), 0..4u32, 0..3u64)
            .prop_map(|((start, pages), slot, offset)| Step::Map { start, pages, slot, offset }),
        1 => range().prop_map(|(start, pages)| Step::Unmap { start, pages }),
    ]
}

/// Slot and file offset that a page shows.
type Shows = Option<(u32, u64)>;

/// Of each page, what it shows from which moment on.
#[derive(Debug, Default)]
struct Model {
    pages: BTreeMap<u64, Vec<(u64, Shows)>>,
}

impl Model {
    fn set(&mut self, page: u64, time_ns: u64, shows: Shows) {
        self.pages.entry(page).or_default().push((time_ns, shows));
    }

    fn at(&self, time_ns: u64, page: u64) -> Shows {
        let changes = self.pages.get(&page)?;
        changes.iter().rev().find(|(from_ns, _)| *from_ns <= time_ns)?.1
    }

    /// What /proc would show now.
    fn areas(&self, targets: &[Target]) -> Vec<Area> {
        let mut areas = Vec::new();
        for page in self.pages.keys() {
            if let Some((slot, offset)) = self.at(LATEST_NS, *page) {
                areas.push(area(*page..page + 1, offset, targets[slot as usize].clone(), 0));
            }
        }
        joined(areas)
    }
}

proptest! {
    #[test]
    fn every_address_shows_at_every_moment_what_was_mapped_there(
        steps in prop::collection::vec(step(), 1..24),
        swaps in prop::collection::vec(any::<bool>(), 24),
    ) {
        let targets = [Target::Anonymous, file(1), file(2), file(3)];
        let (mut mappings, mut model) = (Mappings::default(), Model::default());
        let mut held: Option<Area> = None;
        for (index, step) in steps.iter().enumerate() {
            let time_ns = (index as u64 + 1) * 10;
            match *step {
                Step::Map { start, pages, slot, offset } => {
                    let repeats = steps.get(index + 1).is_some_and(|next| {
                        next.shows().iter().any(|(page, shows)| model.at(time_ns, *page) == Some(*shows))
                    });
                    step.shows().into_iter().for_each(|(page, shows)| model.set(page, time_ns, Some(shows)));
                    let new = area(start..start + pages, offset * PAGE, targets[slot as usize].clone(), time_ns);
                    // Told late: after the one that follows it. One that only repeats what was there leaves no
                    // trace that the late one could be held against.
                    if swaps[index] && held.is_none() && !repeats {
                        held = Some(new);
                        continue;
                    }
                    mappings.map(new);
                    held.take().into_iter().for_each(|late| { mappings.map(late); });
                }
                Step::Unmap { start, pages } => {
                    held.take().into_iter().for_each(|late| { mappings.map(late); });
                    (start..start + pages).for_each(|page| model.set(page, time_ns, None));
                    mappings.replace(time_ns, 0, model.areas(&targets));
                }
            }
            prop_assert!(is_ordered(&mappings), "{mappings:?}");
        }
        held.take().into_iter().for_each(|late| { mappings.map(late); });
        for page in 0..PAGES + 5 {
            for time_ns in (5..steps.len() as u64 * 10 + 20).step_by(5) {
                prop_assert_eq!(shown(&mappings, time_ns, page), model.at(time_ns, page), "page {} at {}: {:?}", page, time_ns, mappings);
            }
        }
        let now = mappings.as_of(LATEST_NS);
        prop_assert!(is_ordered(&now));
        for page in 0..PAGES + 5 {
            prop_assert_eq!(shown(&now, LATEST_NS, page), model.at(LATEST_NS, page));
        }
    }
}
