//! The embedded default destination: recent profiles on disk, read by the UI.
