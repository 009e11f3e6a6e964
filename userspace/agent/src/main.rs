//! The kovar binary.
mod config;
fn main() {}
