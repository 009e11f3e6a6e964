//! Drives the built binary against real kernels, containers, backends and a browser.

pub mod build_id;
pub mod chains;
pub mod container;
pub mod declaration;
pub mod declared;
pub mod host;
pub mod http;
pub mod kovar;
pub mod lab;
pub mod names;
pub mod pprof;
pub mod process;
pub mod program;
pub mod recording;
pub mod skip;
pub mod symbols;
pub mod sysctl;
pub mod verdict;
pub mod wait;
