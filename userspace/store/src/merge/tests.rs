//! Behaviour of the merger.
