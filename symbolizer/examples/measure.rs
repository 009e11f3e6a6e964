use std::sync::Arc; use std::fs::File; use symbolizer::*;
fn anon() -> (u64,u64) { let s=std::fs::read_to_string("/proc/self/status").unwrap(); let f=|k:&str| s.lines().find(|l|l.starts_with(k)).unwrap().split_whitespace().nth(1).unwrap().parse().unwrap(); (f("RssAnon:"), f("RssFile:")) }
fn cpu() -> f64 { unsafe { let mut u: libc::rusage = std::mem::zeroed(); libc::getrusage(libc::RUSAGE_SELF,&mut u); u.ru_utime.tv_sec as f64+u.ru_stime.tv_sec as f64+(u.ru_utime.tv_usec+u.ru_stime.tv_usec) as f64/1e6 } }
fn main() {
    let mut a = std::env::args().skip(1); let path=a.next().unwrap();
    let n: u64 = a.next().map_or(100,|x|x.parse().unwrap());
    let big = a.next().is_some();
    let mut c = Config::default(); if big { c.debug_bytes_max=1<<40; c.symbol_bytes_max=1<<40; c.inflated_bytes_max=1<<40;c.open_bytes_max=1<<41; }
    let mut r = Resolver::new(&c);
    let (a0,c0)=(anon(),cpu());
    if path=="kernel" { let q=vec![Query::Kernel{address:0xffffffff81100000}]; println!("{:?}", r.resolve(&q)); println!("anon +{} KiB cpu {:.3} {:?}", anon().0-a0.0, cpu()-c0, r.stats());
      let c1=cpu(); let q:Vec<_>=(0..1000000u64).map(|i|Query::Kernel{address:0xffffffff81100000+i*7}).collect(); r.resolve(&q); println!("1M lookups {:.3}", cpu()-c1); return; }
    let file=File::open(&path).unwrap();
    // exec range
    let out=std::process::Command::new("readelf").args(["-SW",&path]).output().unwrap(); let t=String::from_utf8_lossy(&out.stdout).into_owned();
    let l=t.lines().find(|l|l.contains(" .text ")).unwrap(); let f:Vec<&str>=l.split("PROGBITS").nth(1).unwrap().split_whitespace().collect();
    let (off,size)=(u64::from_str_radix(f[1],16).unwrap(),u64::from_str_radix(f[2],16).unwrap());
    let l=layout::parse(&file).unwrap(); println!("symbols {} KiB debug {} KiB inflated {} KiB", l.symbol_bytes>>10,l.debug_bytes>>10,l.inflated_bytes>>10);
    let e=Arc::new(Executable{id:1,file,path:path.clone(),build_id:vec![],symbol_bytes:0,debug_bytes:0});
    let q:Vec<_>=(0..n).map(|i|Query::User{executable:e.clone(),file_offset:off+size*i/n}).collect();
    let t0=std::time::Instant::now();
    let res=r.resolve(&q);
    let ok=res.iter().filter(|x|x.is_ok()).count(); let fr:usize=res.iter().flatten().map(|f|f.len()).sum();
    println!("{n}: ok {ok} frames {fr} anon +{} KiB file +{} KiB cpu {:.3} wall {:.3}", anon().0-a0.0, anon().1-a0.1, cpu()-c0, t0.elapsed().as_secs_f64());
    let c1=cpu(); r.resolve(&q); println!("again cpu {:.4}", cpu()-c1);
    if let Some(Ok(f))=res.iter().find(|x|matches!(x,Ok(f) if f.len()>2)) { println!("{f:?}"); }
    let before=anon(); std::thread::sleep(std::time::Duration::from_millis(5100)); r.evict_idle(); println!("after evict anon +{} KiB (was {}) ", anon().0 as i64-a0.0 as i64, before.0-a0.0);
    println!("{:?}", r.stats());
}
