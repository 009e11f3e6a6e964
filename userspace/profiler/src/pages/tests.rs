//! The pool: what it gives out, takes back, and when it gives it out again.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;
use unwind::Pages;

use super::*;

const MIB: u64 = 1 << 20;

fn heap(_number: u32) -> Result<Chunk, Error> {
    Ok(Chunk::heap())
}

fn refused(_number: u32) -> Result<Chunk, Error> {
    Err(Error::Kernel("no memory".into()))
}

#[test]
fn the_pool_grows_chunk_by_chunk_to_its_budget_and_never_gives_page_0() {
    let now = Instant::now();
    let mut pool = Pool::new(MIB + 1);
    assert_eq!((pool.capacity(), pool.memory_bytes()), (511, 0));
    let mut numbers = Vec::new();
    let first = pool.allocate(255, now, |number| {
        numbers.push(number);
        heap(number)
    });
    assert_eq!((numbers.as_slice(), pool.memory_bytes()), ([0].as_slice(), MIB));
    assert!(!first.unwrap().contains(&PAGE_NONE));
    assert!(pool.allocate(257, now, heap).is_none());
    assert_eq!(pool.memory_bytes(), MIB, "too much was asked for: nothing is added for it");
    assert_eq!(pool.allocate(256, now, heap).map(|pages| pages.len()), Some(256));
    assert_eq!((pool.used(), pool.available()), (511, 0));
    assert!(pool.allocate(1, now, heap).is_none());
}

#[test]
fn a_freed_page_is_used_again_only_after_its_quarantine() {
    let now = Instant::now();
    let mut pool = Pool::new(MIB);
    let pages = pool.allocate(255, now, heap).unwrap();
    pool.free(pages, now);
    assert_eq!((pool.used(), pool.quarantined(), pool.available()), (0, 255, 0));
    let almost = now + QUARANTINE - Duration::from_nanos(1);
    assert!(pool.allocate(1, almost, heap).is_none());
    assert_eq!(pool.settles_at(), Some(now + QUARANTINE));
    assert!(pool.allocate(255, now + QUARANTINE, heap).is_some());
    assert_eq!((pool.quarantined(), pool.settles_at(), pool.memory_bytes()), (0, None, MIB));
}

#[test]
fn a_written_page_is_read_back_and_page_0_stays_zero() {
    let now = Instant::now();
    let mut pool = Pool::new(2 * MIB);
    let pages = pool.allocate(511, now, heap).unwrap();
    for page in &pages {
        pool.write(*page, &[*page; abi::PAGE_WORDS]);
    }
    for page in &pages {
        assert_eq!(pool.page(*page), Some(&[*page; abi::PAGE_WORDS]));
    }
    assert_eq!(pool.page(PAGE_NONE), Some(&[0; abi::PAGE_WORDS]));
    assert_eq!(pool.page(512), None);
}

#[test]
fn while_the_kernel_refuses_memory_the_pool_is_what_is_there_and_asks_again_after_a_minute() {
    let now = Instant::now();
    let mut pool = Pool::new(2 * MIB);
    assert!(pool.allocate(200, now, heap).is_some());
    assert!(pool.allocate(200, now, refused).is_none());
    assert_eq!((pool.capacity(), pool.available(), pool.chunks_refused), (255, 55, 1));
    assert!(pool.allocate(200, now, |_| panic!("asked too soon")).is_none());
    assert!(pool.allocate(200, now + GROW_AGAIN, heap).is_some());
    assert_eq!(pool.capacity(), 511);
}

#[derive(Debug, Clone)]
enum Action {
    Allocate(usize),
    Free(usize),
    Wait(u64),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        (0usize..300).prop_map(Action::Allocate),
        any::<usize>().prop_map(Action::Free),
        (0u64..1500).prop_map(Action::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_page_is_given_twice_and_none_before_its_quarantine_is_over(
        actions in prop::collection::vec(action(), 1..80),
    ) {
        let mut now = Instant::now();
        let mut pool = Pool::new(3 * MIB);
        let mut given: Vec<Vec<u32>> = Vec::new();
        let mut freed: HashMap<u32, Instant> = HashMap::new();
        for action in actions {
            match action {
                Action::Allocate(count) => {
                    pool.settle(now);
                    let (available, capacity) = (pool.available(), pool.capacity());
                    let pages = pool.allocate(count, now, heap);
                    prop_assert_eq!(pages.is_some(), count <= available);
                    let pages = pages.unwrap_or_default();
                    let used: HashSet<u32> = given.iter().flatten().copied().collect();
                    for page in &pages {
                        prop_assert!(*page != PAGE_NONE && *page <= capacity as u32);
                        prop_assert!(!used.contains(page), "page {} is in use", page);
                        prop_assert!(freed.get(page).is_none_or(|at| now >= *at + QUARANTINE));
                    }
                    prop_assert_eq!(pages.iter().collect::<HashSet<_>>().len(), pages.len());
                    given.push(pages);
                }
                Action::Free(which) if !given.is_empty() => {
                    let pages = given.swap_remove(which % given.len());
                    freed.extend(pages.iter().map(|page| (*page, now)));
                    pool.free(pages, now);
                }
                Action::Free(_) => {}
                Action::Wait(milliseconds) => now += Duration::from_millis(milliseconds),
            }
            let used: usize = given.iter().map(Vec::len).sum();
            prop_assert_eq!(pool.used(), used);
            prop_assert_eq!(pool.used() + pool.quarantined() + pool.available(), pool.capacity());
        }
    }
}
