//! Why a user stack ends where it does. A new reason is one line here; user space labels samples by its name.

macro_rules! ends {
    ($($(#[doc = $help:literal])+ $variant:ident = $name:literal;)+) => {
        /// Reason of a stack's end.
        #[repr(u32)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum End {
            $($(#[doc = $help])+ $variant,)+
        }

        impl End {
            /// All, in index order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Value of the sample's label `incomplete`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// One sentence for the reference.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => concat!($($help),+),)+ }
            }

            /// The reason with this number.
            pub const fn from_number(number: u32) -> Option<Self> {
                match number { $(number if number == Self::$variant as u32 => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

ends! {
    /// The thread's first frame was reached, or there is no user stack: nothing is missing.
    Root = "root";
    /// The stack has more frames than are kept; the outermost are missing.
    FrameLimit = "frame_limit";
    /// No mapping that is known holds the address.
    MappingUnknown = "mapping_unknown";
    /// The process image was gone before its mappings were known.
    ImageUnknown = "image_unknown";
    /// The layout was out of date: code was unmapped or moved since it was read.
    LayoutStale = "layout_stale";
    /// The executable's table was not built yet.
    TablePending = "table_pending";
    /// The executable's table did not fit the budget: frame pointers were followed.
    TableEvicted = "table_evicted";
    /// No table can be built of the executable: frame pointers were followed.
    TableUnreadable = "table_unreadable";
    /// No row says how to go on from here, and there is no frame pointer to follow.
    RowMissing = "row_missing";
    /// The row's rule is of a kind that is not followed.
    RuleUnsupported = "rule_unsupported";
    /// The row wants a register whose value is not known any more.
    RegisterUnknown = "register_unknown";
    /// The thread's stack could not be read: not present, or not there.
    MemoryUnreadable = "memory_unreadable";
    /// The next frame would not lie above this one.
    NoProgress = "no_progress";
    /// The copy of the stack ends here.
    StackCut = "stack_cut";
    /// A 32-bit process: frame pointers were followed by the kernel.
    Compat = "compat";
    /// The thread's user registers could not be read: it exits, or is inside exec.
    RegistersUnreadable = "registers_unreadable";
    /// The kernel does not tell what unwinding by tables needs: frame pointers were followed by the kernel.
    FramePointers = "frame_pointers";
}

impl End {
    /// Whether a later look with tables and mappings at hand may complete the stack.
    pub const fn may_complete(self) -> bool {
        matches!(self, Self::MappingUnknown | Self::ImageUnknown | Self::LayoutStale | Self::TablePending)
    }
}
