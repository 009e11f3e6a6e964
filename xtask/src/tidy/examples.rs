//! There are example configurations, and each begins by saying what it is for.

use std::fs;
use std::path::Path;

use super::Finding;

const EXAMPLES: &str = "deploy/config";

pub(super) fn check(root: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut examples = 0;
    for entry in fs::read_dir(root.join(EXAMPLES)).into_iter().flatten().flatten() {
        if entry.path().extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        examples += 1;
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        if !text.starts_with("# ") {
            let file = format!("{EXAMPLES}/{}", entry.file_name().to_string_lossy());
            findings.push(Finding::new(file, 1, "an example begins with a comment that says what it is for"));
        }
    }
    if examples == 0 {
        findings.push(Finding::new(EXAMPLES, 1, "there is no example configuration (*.yaml)"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_and_silent_examples_are_found() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(check(root.path()).len(), 1);
        let dir = root.path().join(EXAMPLES);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("a.yaml"), "# The least.\nnode: a\n").unwrap();
        assert!(check(root.path()).is_empty());
        fs::write(dir.join("b.yaml"), "node: b\n").unwrap();
        assert_eq!(check(root.path())[0].file, "deploy/config/b.yaml");
    }
}
