//! The programs on the running kernel: a process whose stack is known, unwound by a table made by hand.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use abi::{
    EXEC_PAGES_UNCHECKED, EXECUTABLE_READY, End, Executable, Image, MAPPING_FILE, MAPPING_OPAQUE, PAGE_WORDS,
    Page, ROW_UNUSED, RULE_PAGES_MAX, Rule, USER_FRAMES_MAX, VERSION_GIVEN_UP, file_frame, image_key, row,
    rule_place,
};

use super::*;
use abi::Counter;

use crate::Only;
use crate::clock::Clock;
use crate::event::{Raw, Stack};
use crate::online::Online;
use crate::unwinding::{Chunk, Kernel as _};

/// Calls itself DEPTH times, then works in user mode and in the kernel by turns; the first function has no
/// caller, and the frame pointer 0 says so. getrandom is what keeps the kernel busy without a descriptor.
const PROGRAM: &str = r#"
#ifdef __x86_64__
__asm__(".globl _start\n_start:\n xorl %ebp, %ebp\n call begin\n hlt\n");
static void busy(void *to) {
    long result = 318;
    __asm__ volatile("syscall" : "+a"(result) : "D"(to), "S"(65536), "d"(0) : "rcx", "r11", "memory");
}
#else
__asm__(".globl _start\n_start:\n xorl %ebp, %ebp\n call begin\n hlt\n");
static void busy(void *to) {
    int result = 355;
    __asm__ volatile("int $0x80" : "+a"(result) : "b"(to), "c"(65536), "d"(0) : "memory");
}
#endif
volatile unsigned long work;
static char bytes[65536];
__attribute__((noinline)) void spin(void) {
    for (;;) {
        for (int turn = 0; turn < 100000; turn++) work++;
        busy(bytes);
    }
}
__attribute__((noinline)) void descend(int depth) { if (depth) descend(depth - 1); else spin(); work++; }
void begin(void) { descend(DEPTH); }
"#;
/// `_start`, `begin`, `spin`, and `descend` once more than its depth; and `busy` while in the kernel.
const OTHER_FRAMES: usize = 4;
/// What the kernel's own walk gives at most (PERF_MAX_STACK_DEPTH).
const KERNEL_WALK_FRAMES_MAX: usize = 127;
const SLOT: u32 = 7;
const LAYOUT_PAGE: u32 = 1;
const ROOT_PAGE: u32 = 2;
const LEAF_PAGE: u32 = 3;
/// An emulated or busy machine is slow to compile and to sample.
const WAIT: Duration = Duration::from_secs(20);

/// The line is counted; the test's thread has its name.
fn skip(why: &str) {
    println!("skipped: {}: {why}", std::thread::current().name().unwrap_or_default());
}

/// A running program that ends with the test.
struct Spinning {
    child: Child,
    _folder: tempfile::TempDir,
}

impl Spinning {
    fn start(depth: usize, machine: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let (source, program) = (folder.path().join("spin.c"), folder.path().join("spin"));
        std::fs::write(&source, PROGRAM).unwrap();
        let flags = ["-O0", "-fno-omit-frame-pointer", "-fno-pie", "-no-pie", "-static", "-nostdlib"];
        let compiled = Command::new("gcc")
            .args(flags)
            .args([machine, &format!("-DDEPTH={depth}")])
            .args([Path::new("-o"), &program, &source])
            .status();
        if !compiled.is_ok_and(|status| status.success()) {
            skip("no gcc that compiles a static program");
            return None;
        }
        match Command::new(&program).stdin(Stdio::null()).spawn() {
            Ok(child) => Some(Self { child, _folder: folder }),
            Err(error) => {
                skip(&format!("this kernel does not run a program made with {machine}: {error}"));
                None
            }
        }
    }

    /// (start, end, file offset, path) of the executable mappings, once the program runs.
    fn mappings(&self) -> Vec<(u64, u64, u32, PathBuf)> {
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", self.child.id())).unwrap();
        let executable = maps.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        executable
            .filter(|fields| fields[1].contains('x'))
            .map(|fields| {
                let (start, end) = fields[0].split_once('-').unwrap();
                let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
                let path = fields.get(5).map_or(PathBuf::new(), PathBuf::from);
                (number(start), number(end), number(fields[2]) as u32, path)
            })
            .collect()
    }

    /// Start and end of the program's own code.
    fn text(&self) -> (u64, u64) {
        let mappings = self.mappings();
        let (start, end, ..) = mappings.iter().find(|(.., path)| path.ends_with("spin")).unwrap();
        (*start, *end)
    }

    fn layout_page(&self) -> (Page, u32) {
        let mut page = [0; PAGE_WORDS];
        let mappings = self.mappings();
        for (words, (start, end, offset, path)) in page.chunks_mut(8).zip(&mappings) {
            let kind = if path.ends_with("spin") { MAPPING_FILE } else { MAPPING_OPAQUE };
            words[..2].copy_from_slice(&[*start as u32, (start >> 32) as u32]);
            words[2..4].copy_from_slice(&[*end as u32, (end >> 32) as u32]);
            words[4..7].copy_from_slice(&[*offset, SLOT, kind]);
        }
        (page, mappings.len() as u32)
    }

    /// `mm->exec_vm`: pages of the executable mappings; the vsyscall page is none of the process's own.
    fn exec_pages(&self) -> u64 {
        let mappings = self.mappings();
        let own = mappings.iter().filter(|(.., path)| !path.ends_with("[vsyscall]"));
        own.map(|(start, end, ..)| (end - start) / 4096).sum()
    }
}

impl Drop for Spinning {
    fn drop(&mut self) {
        // It may be gone already.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// The sampler with a clock, seeing one process.
struct Bench {
    sampler: Sampler,
    memory: Memory,
    chunk: Chunk,
    clock: Clock,
    program: Spinning,
}

impl Bench {
    /// `None` where programs cannot be loaded.
    fn start(depth: usize) -> Option<Self> {
        Self::start_on(depth, "-m64")
    }

    fn start_on(depth: usize, machine: &str) -> Option<Self> {
        let config = Config {
            rate_hz: 97,
            kernel: true,
            user: true,
            drain_interval_ms: 1000,
            push_interval_ms: 15_000,
            tables_max_bytes: 16 << 20,
            only: Only::Everything,
        };
        let (sampler, mut memory) = match Sampler::load(&config, true) {
            Ok(loaded) => loaded,
            Err(Error::Privilege(why)) => {
                skip(&why);
                return None;
            }
            Err(error) => panic!("{error}"),
        };
        let program = Spinning::start(depth, machine)?;
        let mut chunk = memory.add_chunk(0).unwrap();
        write_table(&mut chunk);
        let mut online = Online::open().unwrap();
        let clock = Clock::start(config.rate_hz, sampler.program().unwrap(), online.cpus().unwrap()).unwrap();
        Some(Self { sampler, memory, chunk, clock, program })
    }

    /// The first event of the process that `wanted` takes.
    fn wait<T>(&mut self, what: &str, wanted: impl Fn(Event) -> Option<T>) -> T {
        let until = Instant::now() + WAIT;
        let pid = self.program.child.id();
        let mut seen = Vec::new();
        while Instant::now() < until {
            let mut found = None;
            self.sampler.read_events(|event| {
                let stack = match &event {
                    Event::Stack(stack) => stack,
                    Event::Raw(raw) => &raw.stack,
                    Event::Cgroup { .. } => return,
                };
                if stack.visible_tgid == Some(pid) {
                    seen.push((stack.end, stack.user.len()));
                    found = found.take().or_else(|| wanted(event));
                }
            });
            if let Some(found) = found {
                return found;
            }
            self.poll();
        }
        panic!("no {what} in {WAIT:?}; of the process came {seen:?}, in all {:?}", self.sampler.counters());
    }

    /// Returns when there is something to read, or after 50 ms.
    fn poll(&self) {
        let mut poll = libc::pollfd { fd: self.sampler.ring_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd.
        unsafe { libc::poll(&raw mut poll, 1, 50) };
    }

    fn raw(&mut self, end: End) -> Box<Raw> {
        self.wait("raw sample", |event| match event {
            Event::Raw(raw) if raw.stack.end == end => Some(raw),
            _ => None,
        })
    }

    /// A stack without a kernel half and with so many user frames: a tick right behind a system call is in `busy`.
    fn stack(&mut self, user_frames: usize) -> Stack {
        self.wait("stack", |event| match event {
            Event::Stack(stack) if stack.kernel.is_empty() && stack.user.len() == user_frames => Some(stack),
            _ => None,
        })
    }

    /// A stack with a kernel half and so many user frames: interrupts of `spin` have one frame less.
    fn system_call(&mut self, user_frames: usize) -> Stack {
        self.wait("stack of a system call", |event| match event {
            Event::Stack(stack) if !stack.kernel.is_empty() && stack.user.len() == user_frames => Some(stack),
            _ => None,
        })
    }

    /// Writes the process's layout under a version.
    fn set_image(&mut self, raw: &Raw, version: u32, exec_pages: u64) {
        let (page, entries) = self.program.layout_page();
        assert!(self.chunk.write(LAYOUT_PAGE, &page));
        let image = Image {
            start_time_ns: raw.stack.start_time_ns,
            exec_pages,
            version,
            page: LAYOUT_PAGE,
            entries,
            levels: 0,
        };
        self.memory.set_image(image_key(raw.stack.key.tgid, raw.stack.key.exec_id), &image).unwrap();
        let executable = Executable {
            state: EXECUTABLE_READY,
            root: ROOT_PAGE,
            entries: 1,
            levels: 1,
            rule_pages: [ROOT_PAGE; RULE_PAGES_MAX],
        };
        self.memory.set_executable(SLOT, &executable).unwrap();
    }
}

/// One rule for the whole file: the frame pointer is followed.
fn write_table(chunk: &mut Chunk) {
    let mut root = [0; PAGE_WORDS];
    root[1] = LEAF_PAGE;
    let (_, rule) = rule_place(0);
    root[rule..rule + 2].copy_from_slice(&Rule::FRAME_POINTER.words());
    let mut leaf = [ROW_UNUSED; PAGE_WORDS];
    leaf[0] = row(0, 0);
    assert!(chunk.write(ROOT_PAGE, &root) && chunk.write(LEAF_PAGE, &leaf));
}

/// All frames lie in the file, and all but the last call of `descend` are made at one place.
fn check_descent(user: &[u64], depth: usize) {
    let in_file = |frame: &u64| frame & !u64::from(u32::MAX) == file_frame(SLOT, 0);
    assert!(user.iter().all(in_file), "{user:x?}");
    assert!(user[2..=depth].iter().all(|frame| *frame == user[2]), "{user:x?}");
}

#[test]
fn a_process_is_sent_raw_until_its_layout_is_known_and_then_unwound_to_its_root() {
    const DEPTH: usize = 200;
    let Some(mut bench) = Bench::start(DEPTH) else {
        return;
    };
    let (start, end) = bench.program.text();
    let raw = bench.raw(End::ImageUnknown);
    assert!((start..end).contains(&raw.registers.pc), "{:x}", raw.registers.pc);
    assert_eq!(raw.stack.comm, "spin");
    assert!(raw.time_ns > raw.stack.start_time_ns);
    // The frame pointer leads to the return address in what was copied.
    let (sp, fp) = (raw.registers.general[7], raw.registers.general[6]);
    let at = (fp - sp) as usize + 8;
    let word = u64::from_ne_bytes(raw.memory[at..at + 8].try_into().unwrap());
    assert!((start..end).contains(&word), "{word:x} at {at}");

    bench.set_image(&raw, VERSION_GIVEN_UP, EXEC_PAGES_UNCHECKED);
    let walked = bench.stack(KERNEL_WALK_FRAMES_MAX);
    assert_eq!(walked.end, End::FrameLimit, "by frame pointers");
    let exec_pages = bench.program.exec_pages();
    bench.set_image(&raw, 1, exec_pages);
    let stack = bench.stack(DEPTH + OTHER_FRAMES);
    check_descent(&stack.user, DEPTH);
    assert_eq!(stack.end, End::Root);
    let below_kernel = bench.system_call(DEPTH + OTHER_FRAMES + 1);
    check_descent(&below_kernel.user[1..], DEPTH);
    assert_eq!(below_kernel.end, End::Root);

    let counters = bench.sampler.counters();
    assert_eq!(counters[Counter::ProgramNotEntered as usize], 0);
    assert!(counters[Counter::RawSent as usize] > 0);
    bench.sampler.switch().unwrap();
    let mut counted = 0;
    bench.sampler.drain(|key, count| counted += if key == stack.key { count } else { 0 }).unwrap();
    assert!(counted > 0);

    bench.set_image(&raw, 2, exec_pages + 1);
    assert_eq!(bench.raw(End::LayoutStale).stack.key.tgid, stack.key.tgid);
    assert!(bench.sampler.counters()[Counter::LayoutStale as usize] > 0);
}

#[test]
fn a_stack_deeper_than_what_is_kept_is_cut_at_the_limit() {
    let Some(mut bench) = Bench::start(3 * USER_FRAMES_MAX) else {
        return;
    };
    let raw = bench.raw(End::ImageUnknown);
    bench.set_image(&raw, 1, EXEC_PAGES_UNCHECKED);
    let stack = bench.stack(USER_FRAMES_MAX);
    assert_eq!(stack.end, End::FrameLimit);
    assert!(bench.sampler.counters()[Counter::UserStackTruncated as usize] > 0);
    // Most frames are of few places, and those are remembered.
    let counters = bench.sampler.counters();
    assert!(counters[Counter::FramesLookedUp as usize] < 2000, "{counters:?}");
}

#[test]
fn raw_samples_without_room_are_counted_and_every_tick_is_one_thing() {
    let Some(mut bench) = Bench::start(5) else {
        return;
    };
    // Nothing is read: the ring buffer fills up to the part that is kept for stacks.
    let until = Instant::now() + 3 * WAIT;
    let count = |bench: &mut Bench, counter| bench.sampler.counters()[counter as usize];
    while count(&mut bench, Counter::RawRingFull) < 20 && Instant::now() < until {
        bench.poll();
    }
    bench.clock.stop();
    let stack = bench.wait("stack", |event| match event {
        Event::Stack(stack) => Some(stack),
        _ => None,
    });
    assert_eq!((stack.end, stack.user.len()), (End::ImageUnknown, 0));
    let counters = bench.sampler.counters();
    let of = |counter: Counter| counters[counter as usize];
    assert!(of(Counter::RawRingFull) >= 20 && of(Counter::RingFull) == 0, "{counters:?}");
    let lost: u64 = Counter::ALL.into_iter().filter(|counter| counter.loses_sample()).map(of).sum();
    let told = of(Counter::Idle) + of(Counter::Counted) + of(Counter::RawSent) + lost;
    assert_eq!(of(Counter::Ran), told, "{counters:?}");
    assert!(of(Counter::RawSent) > 0 && of(Counter::Counted) > 0);
}

#[test]
fn a_32_bit_process_is_walked_by_frame_pointers_and_says_so() {
    const DEPTH: usize = 20;
    let Some(mut bench) = Bench::start_on(DEPTH, "-m32") else {
        return;
    };
    let (start, end) = bench.program.text();
    let stack = bench.stack(DEPTH + OTHER_FRAMES);
    assert_eq!(stack.end, End::Compat);
    assert!(stack.user.iter().all(|address| (start..end).contains(address)), "{:x?}", stack.user);
    assert!(stack.user[2..=DEPTH].iter().all(|address| *address == stack.user[2]), "{:x?}", stack.user);
    // The call of `_start` is the third to the seventh byte of the code: the place is its last, before the return.
    assert_eq!(stack.user[DEPTH + OTHER_FRAMES - 1] - start, 6);
    assert_eq!(bench.system_call(DEPTH + OTHER_FRAMES + 1).end, End::Compat);
}

#[test]
fn memory_of_added_chunks_is_accounted_under_the_name_of_their_map() {
    let Some(mut bench) = Bench::start(1) else {
        return;
    };
    let before = bench.sampler.map_bytes();
    assert!(before.contains_key("COUNTS_0") && before["EVENTS"] >= u64::from(RING_BYTES_MIN), "{before:?}");
    bench.memory.add_chunk(1).unwrap();
    let after = bench.sampler.map_bytes();
    assert!(
        after[PAGES] - before[PAGES] >= u64::from(abi::CHUNK_PAGES) * abi::PAGE_BYTES as u64,
        "{after:?}"
    );
    assert!(bench.memory.add_chunk(abi::CHUNKS_MAX).is_err());
}
