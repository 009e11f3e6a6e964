//! The sampler and the collector on this machine's own kernel.
