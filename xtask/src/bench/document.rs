//! The parts of docs/performance.md that measurements write, each between markers of its own.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::workspace;

const PATH: &str = "docs/performance.md";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// `bench profiler`
    Steady,
    /// `bench profiler --vm`
    Counted,
    /// `bench profiler --memory`
    Memory,
}

impl Part {
    /// The lines around it.
    fn markers(self) -> [String; 2] {
        let name = match self {
            Self::Steady => "bench profiler",
            Self::Counted => "bench profiler vm",
            Self::Memory => "bench profiler memory",
        };
        ["begin", "end"].map(|edge| format!("<!-- {name}: {edge} -->\n"))
    }
}

/// Puts the text between the part's markers.
///
/// # Errors
/// When the file has not each marker once, in order.
pub(super) fn write(part: Part, text: &str) -> Result<()> {
    let path = workspace::root().join(PATH);
    let document = read(&path)?;
    fs::write(&path, replaced(&document, part, text)?).with_context(|| PATH.to_owned())
}

/// Says before a long run whether its result can be written.
pub(super) fn check(part: Part) -> Result<()> {
    replaced(&read(&workspace::root().join(PATH))?, part, "").map(drop)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}

fn replaced(document: &str, part: Part, text: &str) -> Result<String> {
    let [begin, end] = part.markers();
    let parts = document.split_once(&begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(&end)?;
        (![before, after].iter().any(|part| part.contains(&begin) || part.contains(&end)))
            .then_some((before, after))
    });
    let Some((before, after)) = parts else {
        bail!("{PATH} must have the lines {} and {} once, in this order", begin.trim(), end.trim());
    };
    Ok(format!("{before}{begin}{}\n{end}{after}", text.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: [Part; 3] = [Part::Steady, Part::Counted, Part::Memory];

    #[test]
    fn only_what_stands_between_the_markers_changes() {
        for part in PARTS {
            let others: String = PARTS.iter().filter(|it| **it != part).flat_map(|it| it.markers()).collect();
            let [begin, end] = part.markers();
            let document = format!("# Title\n\n{others}{begin}old\n{end}\nmore\n");
            let wanted = format!("# Title\n\n{others}{begin}new\n{end}\nmore\n");
            assert_eq!(replaced(&document, part, "new\n\n").unwrap(), wanted);
        }
    }

    #[test]
    fn markers_that_are_missing_or_doubled_are_an_error() {
        let [begin, end] = Part::Steady.markers();
        for document in
            [format!("{begin}old\n"), format!("{end}{begin}"), format!("{begin}{end}{begin}{end}")]
        {
            assert!(replaced(&document, Part::Steady, "new").is_err(), "{document}");
        }
    }

    #[test]
    fn the_document_has_its_markers() {
        PARTS.into_iter().for_each(|part| check(part).unwrap());
    }
}
