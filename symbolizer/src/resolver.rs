//! Names for a batch of addresses, on the caller's thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::elf::Elf;
use crate::kallsyms::Kallsyms;
use crate::perf_map::PerfMaps;
use crate::query::{Executable, Frame, Query, Reason, Resolved};
use crate::sigbus;
use crate::stats::Stats;

/// Resolves addresses from kernel symbols, ELF files and perf maps. Not `Send`: it lives on one thread.
pub struct Resolver {
    elf: Elf,
    kallsyms: Kallsyms,
    perf_maps: PerfMaps,
    stats: Stats,
    cache_idle: Duration,
    worked_at: Instant,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").field("stats", &self.stats).finish_non_exhaustive()
    }
}

impl Resolver {
    /// Installs the process's SIGBUS handler, without which a file truncated while it is read would end the
    /// process.
    pub fn new(config: &Config) -> Self {
        if let Err(error) = sigbus::install() {
            tracing::warn!(%error, "a file truncated while it is read will end this process");
        }
        Self {
            elf: Elf::new(config),
            kallsyms: Kallsyms::new(config.proc.join("kallsyms")),
            perf_maps: PerfMaps::new(
                config.proc.clone(),
                config.perf_map_processes_max,
                config.perf_map_bytes_max,
            ),
            stats: Stats::default(),
            cache_idle: Duration::from_millis(config.cache_idle_ms),
            worked_at: Instant::now(),
        }
    }

    /// One answer for each query, in their order. Each executable is opened once for all its addresses.
    pub fn resolve(&mut self, queries: &[Query]) -> Vec<Resolved> {
        self.worked_at = Instant::now();
        let mut answers: Vec<Resolved> = queries.iter().map(|_| Err(Reason::NoSymbol)).collect();
        self.resolve_kernel(queries, &mut answers);
        self.resolve_jit(queries, &mut answers);
        self.resolve_user(queries, &mut answers);
        for answer in &answers {
            self.stats.count(answer);
        }
        answers
    }

    /// Lets go of opened files when there was no work for [`Config::cache_idle_ms`].
    pub fn evict_idle(&mut self) {
        if self.worked_at.elapsed() >= self.cache_idle {
            self.elf.release(&mut self.stats);
        }
    }

    pub fn stats(&self) -> Stats {
        let table = self.kallsyms.table();
        Stats {
            sigbus_survived: sigbus::survived(),
            kallsyms_loads: self.kallsyms.loads,
            kallsyms_bytes_now: table.map_or(0, |table| table.bytes()),
            kallsyms_symbols_now: table.map_or(0, |table| table.symbols() as u64),
            kallsyms_skipped_now: table.map_or(0, |table| table.skipped()),
            perf_map_loads: self.perf_maps.loads,
            perf_map_bytes_now: self.perf_maps.bytes(),
            perf_map_processes_now: self.perf_maps.processes() as u64,
            perf_map_evictions: self.perf_maps.evictions,
            perf_maps_cut: self.perf_maps.cut,
            ..self.stats
        }
    }

    fn resolve_kernel(&mut self, queries: &[Query], answers: &mut [Resolved]) {
        for (query, answer) in queries.iter().zip(answers) {
            if let Query::Kernel { address } = query {
                let name = self.kallsyms.lookup(*address, self.worked_at);
                *answer = name.map(|name| Arc::from([Frame::named(name)]));
            }
        }
    }

    fn resolve_jit(&mut self, queries: &[Query], answers: &mut [Resolved]) {
        let mut asked: Vec<(u32, usize, u64)> = Vec::new();
        for (position, query) in queries.iter().enumerate() {
            if let Query::Jit { pid, address } = query {
                asked.push((*pid, position, *address));
            }
        }
        asked.sort_unstable();
        for group in asked.chunk_by(|a, b| a.0 == b.0) {
            let addresses: Vec<u64> = group.iter().map(|(_, _, address)| *address).collect();
            let names = self.perf_maps.lookup(group[0].0, &addresses, self.worked_at);
            for ((_, position, _), name) in group.iter().zip(names) {
                answers[*position] = name.map(|name| Arc::from([Frame::named(name)]));
            }
        }
    }

    fn resolve_user(&mut self, queries: &[Query], answers: &mut [Resolved]) {
        let mut asked: Vec<(&Executable, usize, u64)> = Vec::new();
        for (position, query) in queries.iter().enumerate() {
            if let Query::User { executable, file_offset } = query {
                asked.push((executable, position, *file_offset));
            }
        }
        asked.sort_unstable_by_key(|(executable, position, _)| (executable.id, *position));
        for group in asked.chunk_by(|a, b| a.0.id == b.0.id) {
            let offsets: Vec<u64> = group.iter().map(|(_, _, offset)| *offset).collect();
            let resolved = self.elf.resolve(group[0].0, &offsets, &mut self.stats);
            for ((_, position, _), answer) in group.iter().zip(resolved) {
                answers[*position] = answer;
            }
        }
    }
}
