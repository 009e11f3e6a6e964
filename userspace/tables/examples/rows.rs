//! Prints what the unwind tables of executable files take: `cargo run --release -p tables --example rows -- FILE...`
#![allow(clippy::print_stdout, reason = "what the example is for")]

use std::error::Error;
use std::fs::File;
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    println!("{:>9} {:>6} {:>6} {:>9} {:>7}  file", "rows", "rules", "pages", "B/row", "ms");
    for path in std::env::args().skip(1) {
        let file = File::open(&path)?;
        let start = Instant::now();
        let rows = tables::read(&file)?;
        let pages = tables::needed(&rows);
        let numbers: Vec<u32> = (1..).take(pages).collect();
        let executable = tables::fill(&rows, &numbers, |_, _| {})?;
        let (took, count) = (start.elapsed(), rows.rows.len());
        let bytes_per_row = (pages * abi::PAGE_BYTES) as f64 / count.max(1) as f64;
        println!(
            "{count:>9} {:>6} {pages:>6} {bytes_per_row:>9.3} {:>7}  {path} (levels {}, {:?})",
            rows.rules.len(),
            took.as_millis(),
            executable.levels,
            rows.dropped
        );
    }
    Ok(())
}
