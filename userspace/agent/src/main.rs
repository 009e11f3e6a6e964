//! The kovar binary.
fn main() {}
