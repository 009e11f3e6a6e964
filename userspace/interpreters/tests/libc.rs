//! The C libraries of this machine: values that a thread keeps are found as the kernel programs would find them.

#![cfg(target_arch = "x86_64")]
#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use std::fs::{self, File};
use std::path::Path;

use interpreters::{Elf, Libc, Memory, Process};

/// Where musl's library lies, as Debian and Alpine have it.
const MUSL: [&str; 2] = ["/usr/lib/x86_64-linux-musl/libc.so", "/lib/ld-musl-x86_64.so.1"];
/// More than glibc keeps in the thread's own block.
const KEYS: usize = 40;

fn recognise(path: &Path) -> Option<Libc> {
    let file = File::open(path).unwrap();
    Libc::recognise(&Elf::read(&file, &Libc::is_wanted).unwrap()).unwrap()
}

/// The libraries that this test itself maps.
fn own_libraries() -> Vec<String> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let mut paths: Vec<String> =
        maps.lines().filter_map(|line| line.split_whitespace().nth(5)).map(str::to_owned).collect();
    paths.retain(|path| path.starts_with('/'));
    paths.dedup();
    paths
}

fn thread_pointer() -> u64 {
    let pointer: u64;
    // SAFETY: the first word behind the thread pointer is the thread pointer, in both libraries.
    unsafe { std::arch::asm!("mov {}, fs:0", out(reg) pointer, options(nostack, readonly)) };
    pointer
}

fn follow(source: python::Source) -> u64 {
    let mut own = Process::new(std::process::id() as i32);
    let mut at = thread_pointer();
    for offset in &source.offsets[..source.hops as usize] {
        let mut word = [0; 8];
        own.read(at.wrapping_add_signed(i64::from(*offset)), &mut word).unwrap();
        at = u64::from_le_bytes(word);
    }
    at
}

#[test]
fn values_of_all_keys_are_found_in_the_thread() {
    let libc = own_libraries().iter().find_map(|path| recognise(Path::new(path))).unwrap();
    for value in 1..=KEYS {
        let mut key = 0;
        // SAFETY: a key of our own, with a number for a value that nobody follows.
        unsafe {
            assert_eq!(libc::pthread_key_create(&raw mut key, None), 0);
            assert_eq!(libc::pthread_setspecific(key, value as *const libc::c_void), 0);
        }
        assert_eq!(follow(libc.value(key).unwrap()), value as u64, "key {key}");
    }
}

#[test]
fn musl_is_understood_where_there_is_one() {
    let Some(path) = MUSL.iter().map(Path::new).find(|path| path.exists()) else {
        println!("skipped: there is no musl here");
        return;
    };
    assert!(matches!(recognise(path), Some(Libc::Musl { .. })), "{}", path.display());
}
