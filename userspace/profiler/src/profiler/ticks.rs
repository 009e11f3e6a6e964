//! The account of the sampling clock: every tick is delivered, idle, or lost for a reason.

use abi::{COUNTER_COUNT, Counter};

/// Where the ticks of the sampling clock went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ticks {
    /// Ticks by the perf descriptors' own count.
    pub counted: u64,
    /// Samples that reached a profile.
    pub delivered: u64,
    /// Samples that left the kernel and wait for the end of their interval; 0 after the last push.
    pub pending: u64,
    /// Ticks on an idle CPU: those that found it idle, and those that the idle CPU did not take.
    pub idle: u64,
    /// The rest, by reason; only reasons that occurred.
    pub lost: Vec<(&'static str, u64)>,
}

/// What user space itself knows of samples.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Delivered {
    pub(crate) samples: u64,
    /// In the unfinished interval.
    pub(crate) pending: u64,
    /// Left out because only one process or container was asked for.
    pub(crate) filtered: u64,
    /// In profiles that the output did not take.
    pub(crate) not_taken: u64,
    /// Counted under a stack whose frames are not known.
    pub(crate) without_stack: u64,
}

impl Ticks {
    /// `idle_expected` is idle time divided by the period. A tick that meets a CPU busy in another BPF
    /// program never runs this one (kernel/events/core.c, bpf_overflow_handler): what the descriptors
    /// counted, less what ran, less what idle explains, was missed.
    pub(crate) fn account(
        counted: u64,
        idle_expected: u64,
        counters: &[u64; COUNTER_COUNT as usize],
        delivered: Delivered,
    ) -> Self {
        let of = |counter: Counter| counters[counter as usize];
        let not_run = counted.saturating_sub(of(Counter::Ran));
        let idle_not_taken = idle_expected.saturating_sub(of(Counter::Idle)).min(not_run);
        let mut lost = vec![
            ("ticks_missed", not_run - idle_not_taken),
            ("without_stack", delivered.without_stack),
            ("filtered", delivered.filtered),
            ("not_taken", delivered.not_taken),
        ];
        lost.extend(
            Counter::ALL
                .into_iter()
                .filter(|counter| counter.loses_sample())
                .map(|counter| (counter.name(), of(counter))),
        );
        lost.retain(|(_, count)| *count > 0);
        Self {
            counted,
            delivered: delivered.samples,
            pending: delivered.pending,
            idle: of(Counter::Idle) + idle_not_taken,
            lost,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(pairs: &[(Counter, u64)]) -> [u64; COUNTER_COUNT as usize] {
        let mut counters = [0; COUNTER_COUNT as usize];
        for (counter, value) in pairs {
            counters[*counter as usize] = *value;
        }
        counters
    }

    #[test]
    fn every_tick_is_delivered_idle_or_lost() {
        let counters = counters(&[
            (Counter::Ran, 900),
            (Counter::Idle, 100),
            (Counter::Counted, 790),
            (Counter::RingFull, 10),
        ]);
        let delivered = Delivered { samples: 780, pending: 1, not_taken: 4, filtered: 3, without_stack: 2 };
        let ticks = Ticks::account(1000, 150, &counters, delivered);
        assert_eq!(ticks.idle, 150);
        assert_eq!(
            ticks.lost,
            [
                ("ticks_missed", 50),
                ("without_stack", 2),
                ("filtered", 3),
                ("not_taken", 4),
                ("ring_full", 10)
            ]
        );
        let lost: u64 = ticks.lost.iter().map(|(_, count)| count).sum();
        assert_eq!(ticks.counted, ticks.delivered + ticks.pending + ticks.idle + lost);
    }

    #[test]
    fn an_idle_cpu_that_takes_no_ticks_is_not_a_loss() {
        let counters = counters(&[(Counter::Ran, 10), (Counter::Idle, 3), (Counter::Counted, 7)]);
        let ticks = Ticks::account(1000, 995, &counters, Delivered { samples: 7, ..Delivered::default() });
        assert_eq!((ticks.idle, ticks.lost.len()), (993, 0));
    }
}
