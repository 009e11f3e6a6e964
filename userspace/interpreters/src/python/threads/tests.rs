//! Keys and variables of each kind, in a process made of bytes.

use std::collections::HashMap;

use super::*;

const BIAS: u64 = 0x7000_0000;
const GLIBC: Option<Libc> = Some(Libc::Glibc { first: 792 });

struct Fake(HashMap<u64, u8>);

impl Memory for Fake {
    fn read(&mut self, address: u64, into: &mut [u8]) -> Option<()> {
        for (at, byte) in (address..).zip(into) {
            *byte = *self.0.get(&at)?;
        }
        Some(())
    }
}

fn memory(words: &[(u64, u64)]) -> Fake {
    let bytes = words.iter().flat_map(|(at, word)| (*at..).zip(word.to_le_bytes()));
    Fake(bytes.collect())
}

fn threads(current: Option<Variable>, bound: Option<Bound>) -> Threads {
    Threads { current, bound, has_key_struct: true }
}

#[test]
fn a_key_that_is_not_made_yet_is_to_be_asked_again() {
    let threads = threads(None, Some(Bound::Key { at: 0x104 }));
    let made = |made: u64| memory(&[(BIAS + 0x100, made | 3 << 32)]);
    let found = threads.attach(BIAS, GLIBC, &mut made(1)).unwrap();
    assert_eq!(found, [Source::default(), source(&[792 + 3 * 16])]);
    assert!(matches!(threads.attach(BIAS, GLIBC, &mut made(0)), Err(Error::NotReady(_))));
    assert!(matches!(threads.attach(BIAS, None, &mut made(1)), Err(Error::Missing(_))));
    assert!(matches!(threads.attach(0, GLIBC, &mut made(1)), Err(Error::Unreadable(_))));
}

#[test]
fn the_key_of_3_6_is_a_number_of_its_own() {
    let threads = Threads { has_key_struct: false, ..threads(None, Some(Bound::Key { at: 0x104 })) };
    let key = |key: u32| memory(&[(BIAS + 0x100, u64::from(key) << 32)]);
    assert_eq!(threads.attach(BIAS, GLIBC, &mut key(0)).unwrap()[1], source(&[792]));
    assert!(matches!(threads.attach(BIAS, GLIBC, &mut key(u32::MAX)), Err(Error::NotReady(_))));
}

#[test]
fn a_key_behind_the_global_offset_table_is_found() {
    let threads = threads(None, Some(Bound::KeyBehind { slot: 0x10, plus: 0x254 }));
    let mut memory = memory(&[(BIAS + 0x10, 0x5000), (0x5250, 1 | 2 << 32)]);
    assert_eq!(threads.attach(BIAS, GLIBC, &mut memory).unwrap()[1], source(&[792 + 32]));
}

#[test]
fn variables_of_each_model_are_found() {
    let words = [(BIAS + 0x10, -24i64 as u64), (BIAS + 0x20, 5), (BIAS + 0x28, 16)];
    let current = |variable| threads(Some(variable), None).attach(BIAS, GLIBC, &mut memory(&words));
    assert_eq!(current(Variable::Static { offset: -8 }).unwrap()[0], source(&[-8]));
    assert_eq!(current(Variable::Slot { at: 0x10 }).unwrap()[0], source(&[-24]));
    assert_eq!(current(Variable::Block { pair: 0x20, plus: 8 }).unwrap()[0], source(&[8, 80, 24]));
    assert!(matches!(current(Variable::Slot { at: 0x40 }), Err(Error::Unreadable(_))));
}

#[test]
fn a_variable_is_enough_where_the_c_library_is_not_known() {
    let threads = threads(Some(Variable::Static { offset: -8 }), Some(Bound::Key { at: 0x104 }));
    let mut memory = memory(&[(BIAS + 0x100, 1)]);
    assert_eq!(threads.attach(BIAS, None, &mut memory).unwrap(), [source(&[-8]), Source::default()]);
}
