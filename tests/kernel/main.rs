//! The sampler and the collector on this machine's own kernel, as root, one test at a time.

mod accuracy;
mod container;
mod dlopen;
mod hosts;
mod live;
mod mappings;
mod namespaces;
mod privileges;
mod probes;
mod processes;
mod profiling;
mod split;
mod storage;
mod storm;
mod summary;
mod symbols;
mod unwinding;
