//! Where signals come in over the network or from files: scrape, tail, otlp, pprof, ingest.
//! Empty until the collector takes its first such signal; the profiler is a package of its own.
