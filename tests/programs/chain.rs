//! The chain of chain.h in Rust: main, dispatch, work_a, work_b and work_c, spin. rustc -O

use std::hint::black_box;

/// See chain.h.
const PART_STEPS: u64 = 200_000;
const JITTER_STEPS: u64 = 1 << 14;
/// From `linux/time.h`.
const CLOCK_THREAD_CPUTIME_ID: i32 = 3;

#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

unsafe extern "C" {
    fn clock_gettime(clock: i32, time: *mut Timespec) -> i32;
}

#[inline(always)]
fn thread_cpu_ns() -> u64 {
    let mut now = Timespec { seconds: 0, nanoseconds: 0 };
    // SAFETY: `now` lives, and is what the call writes to.
    unsafe { clock_gettime(CLOCK_THREAD_CPUTIME_ID, &mut now) };
    now.seconds as u64 * 1_000_000_000 + now.nanoseconds as u64
}

#[inline(never)]
fn spin(mut x: u64, parts: u64) -> u64 {
    let steps = PART_STEPS - (x >> 40) % JITTER_STEPS;
    for _ in 0..parts * steps {
        x = x.wrapping_mul(31).wrapping_add(7);
        // SAFETY: no instruction at all.
        unsafe { std::arch::asm!("/* {0} */", inout(reg) x) };
    }
    x
}

macro_rules! work {
    ($name:ident, $index:literal, $parts:literal) => {
        #[inline(never)]
        fn $name(x: u64, spent_ns: &mut [u64; 3]) -> u64 {
            let begin_ns = thread_cpu_ns();
            let x = spin(black_box(x), $parts);
            spent_ns[$index] += thread_cpu_ns() - begin_ns;
            x
        }
    };
}

work!(work_a, 0, 6);
work!(work_b, 1, 3);
work!(work_c, 2, 1);

#[inline(never)]
fn dispatch(x: u64, spent_ns: &mut [u64; 3]) -> u64 {
    let x = work_a(x, spent_ns);
    let x = work_b(x, spent_ns);
    let x = work_c(x, spent_ns);
    black_box(x)
}

fn main() {
    let limit_ms: u64 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(7000);
    let mut spent_ns = [0; 3];
    let mut x = black_box(1);
    while spent_ns.iter().sum::<u64>() < limit_ms * 1_000_000 {
        x = dispatch(x, &mut spent_ns);
    }
    black_box(x);
    let [a, b, c] = spent_ns;
    println!("cpu_ns work_a={a} work_b={b} work_c={c}");
}
