//! Tests of the module `kallsyms`.

use std::fmt::Write as _;
use std::io::Write as _;

use super::*;

const SAMPLE: &str = "\
ffffffff81000000 T _text
ffffffff81000000 T _stext
ffffffff81000000 T __startup
ffffffff81000000 T startup
ffffffff81000100 t __pfx_helper
ffffffff81000110 t helper
ffffffff81000110 W weak_helper
ffffffff81000200 D some_data
ffffffff81800000 T __entry_text_end
ffffffff81800100 T __sched_text_end
ffffffff81800100 T __lock_text_start
ffffffff81800100 T __lock
ffffffff81900000 T _etext
ffffffffc0001000 t nf_hook\t[nf_tables]
ffffffffc0200000 t bpf_prog_6deef7357e7b4530_sd_fw_egress\t[bpf]
ffffffffc0200100 t bpf_prog_6deef7357e7b4530\t[bpf]
";

fn table(text: &str) -> Table {
    parse(text.as_bytes()).unwrap().unwrap()
}

#[test]
fn an_address_belongs_to_the_nearest_symbol_at_or_below() {
    let table = table(SAMPLE);
    let name = |address: u64| table.lookup(address).map(Cow::into_owned);
    assert_eq!(name(0xffff_ffff_8100_0000).as_deref(), Some("startup"), "fewest underscores win");
    assert_eq!(name(0xffff_ffff_8100_0105).as_deref(), Some("startup"), "padding names nothing");
    assert_eq!(name(0xffff_ffff_8100_0110).as_deref(), Some("helper"), "a weak alias loses");
    assert_eq!(name(0xffff_ffff_817f_ffff).as_deref(), Some("helper"), "any distance in the core image");
    assert_eq!(name(0xffff_ffff_8180_0000), None, "behind the end of a section");
    assert_eq!(name(0xffff_ffff_8180_0100).as_deref(), Some("__lock"), "marks are no functions");
    assert_eq!(name(0xffff_ffff_c000_1010).as_deref(), Some("nf_hook [nf_tables]"));
    assert_eq!(name(0xffff_ffff_80ff_ffff), None, "before the first");
    assert_eq!(name(0xffff_ffff_c010_1000).as_deref(), Some("nf_hook [nf_tables]"), "exactly 1 MiB");
    assert_eq!(name(0xffff_ffff_c010_1001), None, "more than 1 MiB past a module's symbol");
}

#[test]
fn bpf_programs_lose_their_tag_only_when_they_have_a_name() {
    let table = table(SAMPLE);
    assert_eq!(table.lookup(0xffff_ffff_c020_0000).unwrap(), "sd_fw_egress [bpf]");
    assert_eq!(table.lookup(0xffff_ffff_c020_0100).unwrap(), "bpf_prog_6deef7357e7b4530 [bpf]");
}

#[test]
fn zero_addresses_mean_hidden() {
    let hidden = "0000000000000000 T _stext\n0000000000000000 t helper\n";
    assert_eq!(parse(hidden.as_bytes()).unwrap().unwrap_err(), Reason::KallsymsHidden);
    assert_eq!(parse(&b""[..]).unwrap().unwrap().symbols(), 0);
}

#[test]
fn too_long_lines_and_nonsense_are_left_out_and_counted() {
    let long = "x".repeat(5 * LINE_BYTES_MAX);
    let text = format!("ffffffff81000000 T {long}\nffffffff81000010 T good\nno address here\n\nffffffff T");
    let table = parse(BufReader::with_capacity(7, text.as_bytes())).unwrap().unwrap();
    assert_eq!((table.symbols(), table.skipped()), (1, 1));
    assert_eq!(table.lookup(0xffff_ffff_8100_0010).unwrap(), "good");
}

#[test]
fn a_table_stops_growing_at_its_limit() {
    let mut text = String::new();
    for n in 0..SYMBOLS_MAX + 3 {
        writeln!(text, "{:x} t f", 0xffff_ffff_0000_0000 + 16 * n as u64).unwrap();
    }
    let table = table(&text);
    assert_eq!((table.symbols(), table.skipped()), (SYMBOLS_MAX, 3));
}

#[test]
fn a_module_loaded_later_is_found_after_the_reload_interval_and_not_before() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(SAMPLE.as_bytes()).unwrap();
    let mut kallsyms = Kallsyms::new(file.path().into());
    let start = Instant::now();
    let late = 0xffff_ffff_d000_0004;
    assert_eq!(kallsyms.lookup(late, start), Err(Reason::NoSymbol));
    file.write_all(b"ffffffffd0000000 t later\t[mod]\n").unwrap();
    assert_eq!(kallsyms.lookup(late, start + Duration::from_secs(9)), Err(Reason::NoSymbol));
    assert_eq!(kallsyms.loads, 1);
    assert_eq!(kallsyms.lookup(late, start + Duration::from_secs(10)).unwrap(), "later [mod]");
    assert_eq!(kallsyms.loads, 2);
    file.write_all(b"ffffffffd0000004 t newest\t[bpf]\n").unwrap();
    assert_eq!(kallsyms.lookup(late, start + Duration::from_secs(69)).unwrap(), "later [mod]");
    assert_eq!(kallsyms.lookup(late, start + Duration::from_secs(70)).unwrap(), "newest [bpf]");
    let core = 0xffff_ffff_8100_0111;
    assert_eq!(kallsyms.lookup(core, start + Duration::from_secs(999)).unwrap(), "helper");
    assert_eq!(kallsyms.loads, 3, "the core image never changes");
}

#[test]
fn a_missing_file_is_tried_again_after_a_while() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kallsyms");
    let mut kallsyms = Kallsyms::new(path.clone());
    let start = Instant::now();
    let address = 0xffff_ffff_8100_0111;
    assert_eq!(kallsyms.lookup(address, start), Err(Reason::Unreadable));
    std::fs::write(&path, SAMPLE).unwrap();
    assert_eq!(kallsyms.lookup(address, start + Duration::from_secs(59)), Err(Reason::Unreadable));
    assert_eq!(kallsyms.lookup(address, start + Duration::from_secs(60)).unwrap(), "helper");
}

#[test]
fn this_kernels_symbols_are_read_and_small() {
    let file = File::open("/proc/kallsyms").unwrap();
    let table = match parse(BufReader::new(file)).unwrap() {
        Ok(table) => table,
        Err(reason) => return println!("skipped: {reason}"),
    };
    let text = std::fs::read_to_string("/proc/kallsyms").unwrap();
    let line = text.lines().find(|line| line.ends_with(" schedule")).unwrap();
    let address = u64::from_str_radix(line.split(' ').next().unwrap(), 16).unwrap();
    assert_eq!(table.lookup(address + 1).unwrap(), "schedule");
    assert!(table.core_contains(address));
    assert!(table.bytes() < 64 * table.symbols() as u64, "{} bytes", table.bytes());
}
