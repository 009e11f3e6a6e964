//! The README's component table names every package.

use std::fs;
use std::path::Path;

use super::Finding;
use super::packages::Package;

const README: &str = "README.md";

pub(super) fn check(root: &Path, packages: &[Package]) -> Vec<Finding> {
    match fs::read_to_string(root.join(README)) {
        Ok(text) => check_text(&text, packages.iter().map(|package| package.name.as_str())),
        Err(error) => vec![Finding::new(README, 1, format!("cannot be read: {error}"))],
    }
}

fn check_text<'a>(text: &str, packages: impl Iterator<Item = &'a str>) -> Vec<Finding> {
    let rows: Vec<(usize, String)> =
        text.lines().enumerate().filter_map(|(index, line)| Some((index + 1, first_cell(line)?))).collect();
    let end_of_table = rows.last().map_or(1, |(line, _)| *line);
    packages
        .filter(|package| !rows.iter().any(|(_, cell)| cell == package))
        .map(|package| {
            Finding::new(README, end_of_table, format!("the component table has no row for `{package}`"))
        })
        .collect()
}

/// The first cell of a table's row, without backticks, emphasis and link.
fn first_cell(line: &str) -> Option<String> {
    let cell = line.trim().strip_prefix('|')?.split('|').next()?;
    let cell = cell.trim().trim_start_matches('[');
    let cell = cell.split("](").next().unwrap_or(cell);
    let cell = cell.trim_matches(|c: char| matches!(c, '`' | '*' | ' '));
    (!cell.is_empty() && !cell.starts_with('-')).then(|| cell.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_without_a_row_is_found() {
        let text = "# Kovar\n| package | what |\n|---|---|\n| `abi` | structs |\n| [`model`](userspace/model) | data |\n\
                    and queue in prose\n";
        let findings = check_text(text, ["abi", "model", "queue"].into_iter());
        assert_eq!(findings, [Finding::new("README.md", 5, "the component table has no row for `queue`")]);
    }
}
