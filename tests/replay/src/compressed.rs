//! Files in gzip form, with a limit on what comes out.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use flate2::Compression;
use flate2::write::GzEncoder;

/// Content of a file; more than `bytes_max` is an error.
pub(crate) fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    #[allow(clippy::disallowed_types, reason = "what comes out is limited in the next line")]
    let decoder = flate2::read::GzDecoder::new(file);
    let mut content = Vec::new();
    decoder.take(bytes_max + 1).read_to_end(&mut content).with_context(|| path.display().to_string())?;
    if content.len() as u64 > bytes_max {
        bail!("{} holds more than {bytes_max} bytes", path.display());
    }
    Ok(content)
}

/// Replaces a file.
pub(crate) fn write(path: &Path, content: &[u8]) -> Result<()> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content)?;
    fs::write(path, encoder.finish()?).with_context(|| path.display().to_string())
}
