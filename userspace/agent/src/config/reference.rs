//! `docs/reference.md`, written from the declarations of the settings.

use super::setting::{Setting, Shown};
use super::settings::Settings;
use std::fmt::Write;

/// The page while it is written.
#[derive(Debug, Default)]
pub(crate) struct Page {
    text: String,
}

/// One setting.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) default: Default,
    pub(crate) limits: Option<String>,
    pub(crate) unit: Option<&'a str>,
    pub(crate) doc: &'a [&'a str],
}

/// What holds when the file does not give a setting.
#[derive(Debug)]
pub(crate) enum Default {
    Required,
    Value(Shown),
}

impl Page {
    /// Starts the section at `path`; the empty path is the file itself.
    pub(crate) fn chapter(&mut self, path: &str, doc: &[&str]) {
        let title = if path.is_empty() { "Top level".to_owned() } else { format!("`{path}`") };
        self.line(&format!("\n## {title}\n\n{}\n", paragraph(doc)));
    }

    /// Adds one setting to the section.
    pub(crate) fn row(&mut self, row: Row<'_>) {
        let default = match row.default {
            Default::Required => "required".to_owned(),
            Default::Value(Shown::Plain(text) | Shown::Text(text)) => format!("default `{text}`"),
            Default::Value(_) => "not set by default".to_owned(),
        };
        let unit = row.unit.map(|unit| format!(" of {unit}")).unwrap_or_default();
        let limits = row.limits.map(|limits| format!(", {limits}")).unwrap_or_default();
        self.line(&format!(
            "- `{}`: {}{unit}, {default}{limits}. {}",
            row.name,
            row.kind,
            paragraph(row.doc)
        ));
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }
}

/// The whole page.
pub(crate) fn page() -> String {
    let mut page = Page::default();
    page.line(
        "# Configuration reference\n\n\
         Written from the declarations in `userspace/agent/src/config/settings.rs`; after a change run\n\
         `UPDATE=1 cargo test -p agent reference`.\n\n\
         The file is YAML, by default `/etc/kovar/kovar.yaml`, and everything in it is optional. `${NAME}` stands for an\n\
         environment variable, `${NAME:-default}` gives it a default, `$$` is a dollar sign. A duration is written like\n\
         `500ms`, `15s`, `5m`, `24h` or `7d`, a size like `512KiB`, `256MiB` or `1GiB`. `kovar check --config FILE` names\n\
         every error with its line; `kovar config` prints what is in effect.",
    );
    Settings::document("", &mut page);
    page.text
}

/// The effective configuration as YAML.
pub(crate) fn yaml(shown: &Shown) -> String {
    let mut out = String::new();
    write_yaml(shown, 0, &mut out);
    out
}

fn write_yaml(shown: &Shown, indent: usize, out: &mut String) {
    match shown {
        Shown::Map(entries) => {
            for (i, (key, value)) in entries.iter().enumerate() {
                // The first entry stands on the line of its list's dash.
                let pad = if i == 0 && out.ends_with("- ") { 0 } else { indent };
                match value {
                    Shown::Nothing => {
                        let _infallible = writeln!(out, "{:pad$}# {key}:", "");
                    }
                    Shown::Map(inner) if !inner.is_empty() => {
                        let _infallible = writeln!(out, "{:pad$}{key}:", "");
                        write_yaml(value, indent + 2, out);
                    }
                    Shown::List(items) if !items.is_empty() => {
                        let _infallible = writeln!(out, "{:pad$}{key}:", "");
                        for item in items {
                            let _infallible = write!(out, "{:width$}- ", "", width = indent + 2);
                            write_yaml(item, indent + 4, out);
                        }
                    }
                    _ => {
                        let _infallible = write!(out, "{:pad$}{key}: ", "");
                        write_yaml(value, indent, out);
                    }
                }
            }
            if entries.is_empty() {
                out.push_str("{}\n");
            }
        }
        Shown::List(_) => out.push_str("[]\n"),
        Shown::Nothing => out.push_str("null\n"),
        Shown::Plain(text) => {
            out.push_str(text);
            out.push('\n');
        }
        Shown::Text(text) => {
            // A JSON string is a YAML double-quoted one; `$` is doubled so that the output can be read back.
            let quoted = serde_json::Value::String(text.replace('$', "$$")).to_string();
            out.push_str(&quoted);
            out.push('\n');
        }
    }
}

fn paragraph(doc: &[&str]) -> String {
    doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::page;

    #[test]
    fn the_reference_page_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference.md");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, page()).expect("write the page");
        }
        let written = std::fs::read_to_string(path).expect("docs/reference.md");
        assert_eq!(written, page(), "stale: run `UPDATE=1 cargo test -p agent reference`");
    }
}
