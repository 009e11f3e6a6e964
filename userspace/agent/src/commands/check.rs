//! `kovar check` and `kovar config`.

use crate::config::{Config, Problems};
use std::io::Write;
use std::path::Path;

/// Says that the file is good; nothing is started.
///
/// # Errors
/// Every problem of the file.
pub(crate) fn check(file: &Path) -> anyhow::Result<()> {
    let config = Config::load(Some(file)).map_err(counted)?;
    writeln!(
        std::io::stdout().lock(),
        "{}: good (node {}, destinations: {})",
        file.display(),
        config.node,
        config.pyroscope.len()
    )?;
    Ok(())
}

/// Prints what is in effect.
///
/// # Errors
/// Every problem of the file.
pub(crate) fn print(file: Option<&Path>) -> anyhow::Result<()> {
    let config = Config::load(file)?;
    std::io::stdout().lock().write_all(config.to_yaml().as_bytes())?;
    Ok(())
}

/// Prints what every setting means.
///
/// # Errors
/// Standard output is closed.
pub(crate) fn print_reference() -> anyhow::Result<()> {
    std::io::stdout().lock().write_all(crate::config::reference_page().as_bytes())?;
    Ok(())
}

fn counted(problems: Problems) -> anyhow::Error {
    let errors = if problems.len() == 1 { "error" } else { "errors" };
    anyhow::anyhow!("{problems}\n{} {errors}", problems.len())
}
