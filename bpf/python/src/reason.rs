//! Why a walk over Python frames ends.

macro_rules! reasons {
    ($($(#[doc = $help:literal])+ $variant:ident = $name:literal;)+) => {
        /// Why there is no further Python frame.
        #[repr(u32)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Reason {
            $($(#[doc = $help])+ $variant,)+
        }

        impl Reason {
            /// All, in index order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Value of a metric's label.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

reasons! {
    /// The outermost frame was seen.
    Root = "root";
    /// The thread runs no Python.
    NoThreadState = "no_thread_state";
    /// The thread state, or what leads to it, cannot be read.
    ThreadStateUnreadable = "thread_state_unreadable";
    /// A frame cannot be read.
    FrameUnreadable = "frame_unreadable";
    /// What should be a frame's address cannot be one.
    FrameMisplaced = "frame_misplaced";
    /// A code object cannot be read.
    CodeUnreadable = "code_unreadable";
    /// What a frame runs is no code object.
    NotCode = "not_code";
    /// The frames form a ring.
    Ring = "ring";
}
