//! Temporary.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "example")]
use profiler::*;
struct Out;
impl Output for Out {
    fn live_wanted(&self) -> bool {
        false
    }
    fn live(&self, _b: model::ProfileBatch) {}
    fn push(&self, b: model::ProfileBatch) {
        for p in &b.profiles {
            println!(
                "== {} {} samples {} cgroup {} cid {:?} locs {}",
                p.resource.process_name,
                p.profile.sample.len(),
                p.samples,
                p.resource.cgroup_path,
                p.resource.container_id,
                p.profile.location.len()
            );
            let mut s: Vec<_> = p.profile.sample.iter().collect();
            s.sort_by_key(|s| -s.value[0]);
            for s in s.iter().take(2) {
                let names: Vec<_> = s
                    .location_id
                    .iter()
                    .flat_map(|l| p.profile.location[*l as usize - 1].line.iter())
                    .map(|l| {
                        p.profile.string_table[p.profile.function[l.function_id as usize - 1].name as usize]
                            .clone()
                    })
                    .collect();
                println!("   {} {}", s.value[0], names.join(" < "));
            }
        }
    }
    fn container_id(&self, p: &str) -> Option<String> {
        p.rsplit('/').next().filter(|s| s.len() == 64).map(str::to_owned)
    }
}
fn main() {
    let t = std::time::Instant::now();
    let p = Profiler::start(
        Config {
            rate_hz: 97,
            kernel: true,
            user: true,
            drain_interval_ms: 1000,
            push_interval_ms: 5000,
            only: Only::Everything,
        },
        Box::new(Out),
    )
    .unwrap();
    println!("start {:?}", t.elapsed());
    std::thread::sleep(std::time::Duration::from_secs(12));
    for m in p.metrics() {
        println!("{} {:?} {}", m.name, m.labels, m.value);
    }
    println!("{:?}", p.stop());
}
