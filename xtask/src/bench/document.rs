//! The part of docs/performance.md that a measurement writes.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::workspace;

const PATH: &str = "docs/performance.md";
const BEGIN: &str = "<!-- bench profiler: begin -->\n";
const END: &str = "<!-- bench profiler: end -->\n";

/// Puts the text between the markers.
///
/// # Errors
/// When the file has not each marker once, in order.
pub(super) fn write(text: &str) -> Result<()> {
    let path = workspace::root().join(PATH);
    let document = read(&path)?;
    fs::write(&path, replaced(&document, text)?).with_context(|| PATH.to_owned())
}

/// Says before a long run whether its result can be written.
pub(super) fn check() -> Result<()> {
    replaced(&read(&workspace::root().join(PATH))?, "").map(drop)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}

fn replaced(document: &str, text: &str) -> Result<String> {
    let parts = document.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        (![before, after].iter().any(|part| part.contains(BEGIN) || part.contains(END)))
            .then_some((before, after))
    });
    let Some((before, after)) = parts else {
        bail!("{PATH} must have the lines {} and {} once, in this order", BEGIN.trim(), END.trim());
    };
    Ok(format!("{before}{BEGIN}{}\n{END}{after}", text.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_markers_changes() {
        let document = format!("# Title\n\n{BEGIN}old\n{END}\nmore\n");
        assert_eq!(replaced(&document, "new\n\n").unwrap(), format!("# Title\n\n{BEGIN}new\n{END}\nmore\n"));
    }

    #[test]
    fn markers_that_are_missing_or_doubled_are_an_error() {
        for document in
            [format!("{BEGIN}old\n"), format!("{END}{BEGIN}"), format!("{BEGIN}{END}{BEGIN}{END}")]
        {
            assert!(replaced(&document, "new").is_err(), "{document}");
        }
    }

    #[test]
    fn the_document_has_its_markers() {
        check().unwrap();
    }
}
