//! Limits hold, and files that lie cost an answer at most.

use super::*;
use crate::names::{known_function, own_mapping};

#[test]
fn opened_files_are_let_go_when_idle_or_too_many() {
    let Some(program) = compile("gcc", C_SOURCE, &["-g"]) else { return };
    let mapped = || fs::read_to_string("/proc/self/maps").unwrap().contains(program.path.to_str().unwrap());
    let offset = program.offsets(" outer").start;
    let config = Config { open_executables_max: 1, cache_idle_ms: 0, ..Config::default() };
    let mut resolver = Resolver::new(&config);
    let (first, second) = (program.executable(), executable(File::open("/proc/self/exe").unwrap()));
    assert!(resolve_in(&mut resolver, &first, offset).is_ok());
    assert!(mapped());
    drop(resolve_in(&mut resolver, &second, offset));
    assert!(!mapped(), "the second file takes the place of the first");
    assert!(resolve_in(&mut resolver, &first, offset).is_ok());
    resolver.evict_idle();
    assert!(!mapped());
    assert_eq!((resolver.stats().elf_opened, resolver.stats().elf_released), (3, 3));
    let (open, path) = (fs::read_dir("/proc/self/fd").unwrap(), program.path.clone());
    let held = open.filter(|entry| fs::read_link(entry.as_ref().unwrap().path()).is_ok_and(|to| to == path));
    assert_eq!(held.count(), 1, "only the executable itself stays open");
}

#[test]
fn debug_information_is_let_go_after_many_answers() {
    let Some(program) = compile("gcc", C_SOURCE, &["-g"]) else { return };
    let executable = program.executable();
    let file_offset = program.offsets(" outer").start;
    let queries: Vec<Query> =
        (0..2001).map(|_| Query::User { executable: Arc::clone(&executable), file_offset }).collect();
    let mut resolver = resolver();
    let answers = resolver.resolve(&queries);
    assert!(answers.iter().all(|answer| answer == &answers[0] && answer.is_ok()));
    assert_eq!((resolver.stats().elf_opened, resolver.stats().elf_released), (2, 1));
}

#[test]
fn files_that_are_no_programs_get_an_honest_reason() {
    let sparse = tempfile::tempfile().unwrap();
    sparse.write_all_at(b"\x7fELF\x02\x01\x01", 0).unwrap();
    sparse.write_all_at(&2u16.to_le_bytes(), 16).unwrap();
    sparse.set_len(1 << 30).unwrap();
    assert_eq!(resolve(&executable(sparse), 0x1000), Err(Reason::NoSymbol), "a header and nothing else");
    let empty = tempfile::tempfile().unwrap();
    assert_eq!(resolve(&executable(empty), 0), Err(Reason::NotElf));
    let mut text = tempfile::tempfile().unwrap();
    text.write_all(&b"#!/bin/sh\n".repeat(100)).unwrap();
    assert_eq!(resolve(&executable(text), 0), Err(Reason::NotElf));
    assert_eq!(resolve(&executable(File::open("/dev/zero").unwrap()), 0), Err(Reason::NotElf));
    assert_eq!(resolve(&executable(File::open("/proc/self").unwrap()), 0), Err(Reason::NotElf));
}

#[test]
fn a_program_cut_short_anywhere_never_hangs_or_ends_the_process() {
    let Some(program) = compile("gcc", C_SOURCE, &["-g"]) else { return };
    let whole = fs::read(&program.path).unwrap();
    let offset = program.offsets(" outer").start;
    let mut resolver = resolver();
    for parts in 0..32 {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&whole[..whole.len() * parts / 32]).unwrap();
        let answer = resolve_in(&mut resolver, &executable(file), offset);
        // The headers that name the sections are at the end of the file.
        assert!(matches!(answer, Err(Reason::NotElf | Reason::Unreadable)), "{parts}/32: {answer:?}");
    }
}

#[test]
fn a_file_truncated_while_it_is_read_costs_an_answer_and_not_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shrinking");
    let deadline = Instant::now() + Duration::from_secs(60);
    let before = sigbus::survived();
    let symbolizer = Symbolizer::spawn(Config::default()).unwrap();
    while sigbus::survived() == before {
        assert!(Instant::now() < deadline, "no read ever met the missing pages");
        fs::copy("/proc/self/exe", &path).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let executable = executable(file.try_clone().unwrap());
        let address = known_function as fn(u64) -> u64 as usize as u64;
        let query = Query::User { executable, file_offset: own_mapping(address).1 };
        symbolizer.submit(7, vec![query]).unwrap();
        let mapped = || fs::read_to_string("/proc/self/maps").unwrap().contains("shrinking");
        while !mapped() && Instant::now() < deadline {
            std::hint::spin_loop();
        }
        file.set_len(4096).unwrap();
        let answers = symbolizer.completed(Duration::from_secs(30));
        assert_eq!((answers.len(), answers[0].0, answers[0].1.len()), (1, 7, 1));
    }
}

type BytesAndOffset = (Vec<u8>, u64);

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_damaged_program_always_gets_an_answer(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..60),
        compressed in any::<bool>(),
    ) {
        static PROGRAMS: LazyLock<Vec<Option<BytesAndOffset>>> = LazyLock::new(|| {
            [&["-g"][..], &["-g", "-gz=zlib"]]
                .map(|flags| {
                    let program = compile("gcc", C_SOURCE, flags)?;
                    Some((fs::read(&program.path).unwrap(), program.offsets(" outer").start))
                })
                .into()
        });
        let Some((mut bytes, offset)) = PROGRAMS[usize::from(compressed)].clone() else { return Ok(()) };
        // Half of the changes go where the headers and section tables are.
        let tail = bytes.len() * 3 / 5;
        for (index, value, in_tail) in changes {
            let at = if in_tail { tail + index.index(bytes.len() - tail) } else { index.index(bytes.len()) };
            bytes[at] = value;
        }
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let executable = executable(file);
        let queries: Vec<Query> = [0, 64, offset, offset + 9, bytes.len() as u64, u64::MAX]
            .map(|file_offset| Query::User { executable: Arc::clone(&executable), file_offset })
            .into();
        let answers = resolver().resolve(&queries);
        prop_assert_eq!(answers.len(), queries.len());
        for frames in answers.into_iter().flatten() {
            prop_assert!(!frames.is_empty() && frames.iter().all(|frame| !frame.name.is_empty()));
        }
    }

    #[test]
    fn random_bytes_after_the_magic_always_get_an_answer(tail in proptest::collection::vec(any::<u8>(), 0..4096)) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0").unwrap();
        file.write_all(&tail).unwrap();
        prop_assert!(resolve(&executable(file), 0x100).is_err());
    }
}

#[test]
fn a_full_queue_gives_the_job_back_at_once_and_dropping_never_waits_for_the_caller() {
    let config = Config { queue_jobs_max: 1, job_addresses_max: 4, ..Config::default() };
    let symbolizer = Symbolizer::spawn(config).unwrap();
    let query = || vec![Query::Jit { pid: u32::MAX, address: 1 }];
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut accepted = 0;
    // One answer waits, one job waits for its place there, one is in the queue.
    let refused = loop {
        match symbolizer.submit(accepted, query()) {
            Ok(()) => accepted += 1,
            Err(full) => break full,
        }
        assert!(Instant::now() < deadline && accepted < 100);
    };
    assert_eq!(refused.queries.len(), 1);
    let too_large = (0..5).flat_map(|_| query()).collect();
    assert_eq!(symbolizer.submit(0, too_large).unwrap_err().queries.len(), 5);
    assert_eq!(symbolizer.metrics().queue_full, 2);
    let mut tokens = Vec::new();
    while tokens.len() < accepted as usize && Instant::now() < deadline {
        tokens.extend(symbolizer.completed(Duration::from_millis(100)).into_iter().map(|(token, _)| token));
    }
    assert_eq!(tokens, (0..accepted).collect::<Vec<_>>(), "in order, none lost");
    assert_eq!(symbolizer.metrics().unresolved[Reason::ProcessGone.index()], accepted);
    assert!(symbolizer.completed(Duration::ZERO).is_empty());
    for token in 0..100 {
        drop(symbolizer.submit(token, query()));
    }
    drop(symbolizer);
}
