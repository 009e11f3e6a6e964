//! A test that cannot run here says so, and is counted as skipped and not as passed.

/// Prints the line that is counted; the caller returns after it.
#[allow(clippy::print_stdout, reason = "the line is read from the test's standard output")]
pub fn skip(test: &str, why: &str) {
    println!("skipped: {test}: {why}");
}
