//! The sampler and the collector on this machine's own kernel, as root, one test at a time.

mod container;
mod hosts;
mod live;
mod mappings;
mod namespaces;
mod privileges;
mod processes;
mod profiling;
mod split;
mod storage;
mod summary;
mod symbols;
