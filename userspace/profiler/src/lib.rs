//! The user half of the sampler: load, processes, drain, pprof.
