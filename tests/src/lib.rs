//! Drives the built binary against real kernels, containers, backends and a browser.

pub mod host;
pub mod http;
pub mod kovar;
pub mod lab;
pub mod pprof;
pub mod process;
pub mod program;
pub mod skip;
pub mod sysctl;
pub mod wait;
