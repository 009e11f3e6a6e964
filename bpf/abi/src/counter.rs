//! What the kernel programs count. A new counter is one line here; user space exports all of them.

macro_rules! counters {
    ($($(#[doc = $help:literal])+ $variant:ident = $name:literal, $loses:literal;)+) => {
        /// Index into the one entry of the per-CPU counter map.
        #[repr(u32)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Counter {
            $($(#[doc = $help])+ $variant,)+
        }

        /// How many counters there are.
        pub const COUNTER_COUNT: u32 = [$(Counter::$variant),+].len() as u32;

        impl Counter {
            /// All, in index order.
            pub const ALL: [Self; COUNTER_COUNT as usize] = [$(Self::$variant),+];

            /// Name as a metric's label.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// One sentence for the reference.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => concat!($($help),+),)+ }
            }

            /// Whether each count is a sample that does not reach a profile.
            pub const fn loses_sample(self) -> bool {
                match self { $(Self::$variant => $loses,)+ }
            }
        }
    };
}

counters! {
    /// Ticks on which the program ran.
    Ran = "ran", false;
    /// Ticks that found the CPU idle.
    Idle = "idle", false;
    /// Samples counted in a count map.
    Counted = "counted", false;
    /// Samples dropped because the count map was full.
    CountsFull = "counts_full", true;
    /// Samples dropped because the ring buffer had no room for a new stack's frames.
    RingFull = "ring_full", true;
    /// Samples dropped because a kernel fact could not be read.
    TaskUnreadable = "task_unreadable", true;
    /// Cgroup paths not sent because the ring buffer was full; sent with the cgroup's next new stack.
    CgroupNotSent = "cgroup_not_sent", false;
    /// Kernel stacks that filled the buffer: their outermost frames are missing.
    KernelStackTruncated = "kernel_stack_truncated", false;
    /// User stacks with more frames than are kept: their outermost frames are missing.
    UserStackTruncated = "user_stack_truncated", false;
    /// User stacks that could not be read at all.
    UserStackUnreadable = "user_stack_unreadable", false;
    /// Frames sent to user space: a stack's first sight, or again after it was forgotten.
    StacksSent = "stacks_sent", false;
    /// Samples sent as registers and a copy of the stack, because they could not be unwound yet; not counted
    /// in a count map.
    RawSent = "raw_sent", false;
    /// Samples that should have been sent so but for the room in the ring buffer: counted with the frames that
    /// were found.
    RawRingFull = "raw_ring_full", false;
    /// Samples of a process whose executable mappings had changed since its layout was written.
    LayoutStale = "layout_stale", false;
    /// User frames whose mapping and rule were looked up, because the CPU's cache of frames did not have them.
    FramesLookedUp = "frames_looked_up", false;
    /// Samples dropped because the next of the linked programs could not be entered.
    ProgramNotEntered = "program_not_entered", true;
}
