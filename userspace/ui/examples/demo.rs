//! Serves the page over a store of made-up profiles: `cargo run -p ui --example demo [empty|huge]`.

use std::collections::HashMap;
use std::error::Error;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::pprof::{Function, Label, Line, Location, Mapping, Profile, Sample, ValueType};
use model::push::{LabelPair, PushRequest, RawProfileSeries, RawSample};
use prost::Message;
use store::Store;
use ui::{Destination, Lost, State, Status, Ticks};

const PERIOD_NS: i64 = 1_000_000_000 / 97;
const INTERVAL_MS: i64 = 15_000;
const HISTORY_MS: i64 = 3_600_000;
const HUGE_STACKS: u64 = 3_000;
const HUGE_INTERVALS: i64 = 4;

/// Process, container, executable, stacks (outermost first, each `function@file:line`; kernel functions after
/// `|`) with their weights.
type Program = (&'static str, Option<&'static str>, &'static str, &'static [(&'static str, u32)]);

const PROGRAMS: &[Program] = &[
    (
        "checkout-api",
        Some("4f1c9a0e7b2d5c8836f0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f6"),
        "/usr/bin/checkout-api",
        &[
            (
                "_start main@src/main.rs:41 tokio::runtime::Runtime::block_on@runtime.rs:340 checkout::server::serve@src/server.rs:88 checkout::cart::price@src/cart.rs:120 checkout::tax::lookup@src/tax.rs:57 hashbrown::map::HashMap<K,V,S>::get@map.rs:1201",
                34,
            ),
            (
                "_start main@src/main.rs:41 tokio::runtime::Runtime::block_on@runtime.rs:340 checkout::server::serve@src/server.rs:88 checkout::cart::price@src/cart.rs:124 core::str::<impl_str>::parse@mod.rs:2341",
                11,
            ),
            (
                "_start main@src/main.rs:41 tokio::runtime::Runtime::block_on@runtime.rs:340 checkout::server::serve@src/server.rs:92 serde_json::de::from_slice@de.rs:2674 serde_json::read::SliceRead::parse_str@read.rs:610",
                18,
            ),
            (
                "_start main@src/main.rs:41 tokio::runtime::Runtime::block_on@runtime.rs:340 tokio::net::tcp::TcpStream::write@stream.rs:902 __libc_send | entry_SYSCALL_64_after_hwframe do_syscall_64 __x64_sys_sendto sock_sendmsg tcp_sendmsg tcp_sendmsg_locked tcp_write_xmit ip_queue_xmit dev_hard_start_xmit",
                14,
            ),
        ],
    ),
    (
        "postgres",
        Some("a83be21f0c6d47e59b10c2d3e4f5061728394a5b6c7d8e9f0a1b2c3d4e5f6071"),
        "/usr/lib/postgresql/16/bin/postgres",
        &[
            (
                "_start main@main.c:198 PostmasterMain@postmaster.c:1466 PostgresMain@postgres.c:4589 exec_simple_query@postgres.c:1274 ExecutorRun@execMain.c:363 ExecSeqScan@nodeSeqscan.c:108 heap_getnextslot@heapam.c:1083 heapgettup_pagemode@heapam.c:832",
                22,
            ),
            (
                "_start main@main.c:198 PostmasterMain@postmaster.c:1466 PostgresMain@postgres.c:4589 exec_simple_query@postgres.c:1274 ExecutorRun@execMain.c:363 ExecSort@nodeSort.c:151 tuplesort_performsort@tuplesort.c:1382 qsort_tuple@sort_template.h:314 qsort_tuple@sort_template.h:340 comparetup_heap@tuplesortvariants.c:950",
                15,
            ),
            (
                "_start main@main.c:198 PostmasterMain@postmaster.c:1466 PostgresMain@postgres.c:4589 ReadBuffer@bufmgr.c:702 __libc_pread64 | entry_SYSCALL_64_after_hwframe do_syscall_64 __x64_sys_pread64 vfs_read ext4_file_read_iter generic_file_read_iter filemap_read copy_page_to_iter",
                12,
            ),
        ],
    ),
    (
        "node",
        Some("c0d2e4f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2"),
        "/usr/local/bin/node",
        &[
            ("_start node::Start@node.cc:1341 uv_run@core.c:447 node+0x1a2b3c node+0x91f004", 9),
            (
                "_start node::Start@node.cc:1341 uv_run@core.c:447 v8::internal::Heap::CollectGarbage@heap.cc:1702 v8::internal::MarkCompactCollector::MarkLiveObjects@mark-compact.cc:2611",
                8,
            ),
        ],
    ),
    (
        "containerd",
        None,
        "/usr/bin/containerd",
        &[(
            "runtime.goexit@asm_amd64.s:1695 runtime.main@proc.go:271 main.main@main.go:30 github.com/containerd/ttrpc.(*Server).Serve@server.go:120 syscall.Syscall | entry_SYSCALL_64_after_hwframe do_syscall_64 __x64_sys_futex futex_wait schedule",
            3,
        )],
    ),
    (
        "[kernel]",
        None,
        "",
        &[
            (
                "| ret_from_fork kthread worker_thread process_one_work blk_mq_run_work_fn blk_mq_dispatch_rq_list nvme_queue_rq",
                5,
            ),
            ("| ret_from_fork kthread kswapd balance_pgdat shrink_node shrink_lruvec folio_referenced", 3),
        ],
    ),
    ("sshd", None, "/usr/sbin/sshd", &[("libcrypto.so.3+0x1f00a4 libcrypto.so.3+0x20e311", 1)]),
    // What a hostile process may call itself.
    (
        "<img src=x onerror=alert(1)>",
        None,
        "/tmp/<b>x</b>",
        &[("main <script>alert(1)</script>@\"'><svg/onload=alert(1)>.c:1", 1)],
    ),
];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mode = std::env::args().nth(1).unwrap_or_default();
    let directory = tempfile::tempdir()?;
    let config = store::Config { path: directory.path().to_owned(), bytes_max: 512 << 20, age_max_s: 86_400 };
    let store = Store::open(config)?;
    let started_unix_ms = now_unix_ms();
    if mode != "empty" {
        let first = started_unix_ms - HISTORY_MS;
        for end in (first..=started_unix_ms).step_by(INTERVAL_MS as usize) {
            let huge = mode == "huge" && end > started_unix_ms - HUGE_INTERVALS * INTERVAL_MS;
            store.append(end, &interval(end, 1.0, huge))?;
        }
        let store = store.clone();
        tokio::spawn(async move { live(&store, started_unix_ms).await });
    }
    let empty = mode == "empty";
    let status = Arc::new(move || status(started_unix_ms, empty));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "http://{}/", listener.local_addr()?)?;
    axum::serve(listener, ui::router(State { store, status })).await?;
    Ok(())
}

/// As the profiler does: the running interval every 2 s, the finished one every 15 s.
async fn live(store: &Store, started_unix_ms: i64) {
    let mut start = started_unix_ms;
    loop {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let now = now_unix_ms();
        let share = (now - start) as f64 / INTERVAL_MS as f64;
        let push = interval(now, share, false);
        if share < 1.0 {
            store.set_live(now, push.into());
        } else {
            start = now;
            if let Err(error) = store.append(now, &push) {
                tracing::warn!(%error, "the demo cannot append");
            }
        }
    }
}

fn status(started_unix_ms: i64, empty: bool) -> Status {
    let delivered = if empty { 0 } else { 1_284_331 };
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: "demo-node-1".to_owned(),
        started_unix_ms: started_unix_ms - if empty { 4_000 } else { HISTORY_MS },
        healthy: Ok(()),
        ticks: Ticks {
            counted: delivered + 312,
            delivered,
            idle: 5_220_114,
            lost: vec![Lost { reason: "stack map full".to_owned(), ticks: if empty { 0 } else { 312 } }],
        },
        destinations: vec![Destination {
            name: "main".to_owned(),
            kind: "pyroscope".to_owned(),
            url: "http://pyroscope:4040".to_owned(),
            state: "retrying in 4 s".to_owned(),
            last_error: Some("connection refused".to_owned()),
            records_pending: 12,
        }],
    }
}

/// One push request that ends at `end_unix_ms`.
fn interval(end_unix_ms: i64, share: f64, huge: bool) -> Vec<u8> {
    let wave = |number: usize| {
        1.3 + ((end_unix_ms / 1000) as f64 / (90.0 + 70.0 * number as f64) + number as f64).sin()
    };
    let mut series = Vec::new();
    for (number, (process, container, module, stacks)) in PROGRAMS.iter().enumerate() {
        let mut builder = Builder::default();
        for (stack, weight) in *stacks {
            let samples = (f64::from(*weight) * 10.0 * share * wave(number)) as i64;
            builder.sample(stack, module, samples, 1_000 + number as i64);
        }
        if huge && number == 0 {
            for i in 0..HUGE_STACKS {
                let names: Vec<String> =
                    (0..24 + i % 40).map(|d| format!("f{}@f.c:{d}", (i >> (d / 4)) * 31 + d)).collect();
                builder.sample(&names.join(" "), module, 1 + (i * 7919 % 97) as i64, 1_000);
            }
        }
        let mut labels =
            vec![("__name__", "process_cpu"), ("process_name", process), ("service_name", process)];
        labels.extend(container.map(|id| ("container_id", id)));
        labels.sort_unstable();
        series.push(RawProfileSeries {
            labels: labels
                .into_iter()
                .map(|(name, value)| LabelPair { name: name.to_owned(), value: value.to_owned() })
                .collect(),
            samples: vec![RawSample {
                raw_profile: builder.finish(end_unix_ms, share).into(),
                id: String::new(),
            }],
        });
    }
    PushRequest { series }.encode_to_vec()
}

#[derive(Default)]
struct Builder {
    profile: Profile,
    strings: HashMap<String, i64>,
    locations: HashMap<(String, String), u64>,
}

impl Builder {
    fn sample(&mut self, stack: &str, module: &str, samples: i64, pid: i64) {
        let mut ids = Vec::new();
        let mut module = module;
        for frame in stack.split(' ') {
            if frame == "|" {
                module = "[kernel]";
            } else {
                ids.push(self.location(module, frame));
            }
        }
        ids.reverse();
        let label = vec![Label { key: self.string("pid"), num: pid, ..Label::default() }];
        self.profile.sample.push(Sample { location_id: ids, value: vec![samples * PERIOD_NS], label });
    }

    fn location(&mut self, module: &str, frame: &str) -> u64 {
        let key = (module.to_owned(), frame.to_owned());
        if let Some(id) = self.locations.get(&key) {
            return *id;
        }
        let (name, place) = frame.split_once('@').unwrap_or((frame, ""));
        let (file, line) = place.rsplit_once(':').unwrap_or((place, "0"));
        let (name, file, module) = (self.string(name), self.string(file), self.string(module));
        let known = self.profile.mapping.iter().find(|m| m.filename == module).map(|m| m.id);
        let mapping_id = known.unwrap_or_else(|| {
            let id = self.profile.mapping.len() as u64 + 1;
            self.profile.mapping.push(Mapping {
                id,
                filename: module,
                has_functions: true,
                ..Mapping::default()
            });
            id
        });
        let id = self.profile.location.len() as u64 + 1;
        self.profile.function.push(Function { id, name, filename: file, ..Function::default() });
        let line = vec![Line { function_id: id, line: line.parse().unwrap_or(0), ..Line::default() }];
        self.profile.location.push(Location { id, mapping_id, address: id, line, ..Location::default() });
        self.locations.insert(key, id);
        id
    }

    fn string(&mut self, text: &str) -> i64 {
        if self.profile.string_table.is_empty() {
            self.profile.string_table.push(String::new());
            self.strings.insert(String::new(), 0);
        }
        let next = self.profile.string_table.len() as i64;
        let index = *self.strings.entry(text.to_owned()).or_insert(next);
        if index == next {
            self.profile.string_table.push(text.to_owned());
        }
        index
    }

    fn finish(mut self, end_unix_ms: i64, share: f64) -> Vec<u8> {
        let kind = ValueType { r#type: self.string("cpu"), unit: self.string("nanoseconds") };
        let duration_ms = (INTERVAL_MS as f64 * share) as i64;
        self.profile.sample_type.push(kind);
        self.profile.period_type = Some(kind);
        self.profile.period = PERIOD_NS;
        self.profile.time_nanos = (end_unix_ms - duration_ms) * 1_000_000;
        self.profile.duration_nanos = duration_ms * 1_000_000;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let written = encoder.write_all(&self.profile.encode_to_vec()).and_then(|()| encoder.finish());
        written.unwrap_or_default()
    }
}

fn now_unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
