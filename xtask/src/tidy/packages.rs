//! The borders between packages: who may use whom, and which crates live in one place only.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use cargo_metadata::{DependencyKind, MetadataCommand};

use super::Finding;

/// What a package may use of ours, and which crates it must never use.
struct Border {
    package: &'static str,
    ours: &'static [&'static str],
    never: &'static [&'static str],
}

const NETWORK: [&str; 5] = ["reqwest", "hyper", "tonic", "axum", "rustls"];
const ASYNC: [&str; 3] = ["tokio", "futures", "async-trait"];

const BORDERS: [Border; 23] = [
    Border { package: "abi", ours: &[], never: &["libc", "bytes", "serde"] },
    Border { package: "unwind", ours: &["abi"], never: &["aya", "aya-ebpf", "libc"] },
    Border { package: "python", ours: &[], never: &["aya", "aya-ebpf", "libc"] },
    Border { package: "probes", ours: &["abi", "unwind", "python"], never: &["aya"] },
    Border { package: "bytecode", ours: &[], never: &["aya", "libbpf-rs"] },
    Border { package: "symbolizer", ours: &[], never: &["tokio", "reqwest", "hyper", "tonic", "kube"] },
    Border { package: "model", ours: &[], never: &ASYNC },
    Border { package: "labels", ours: &["model"], never: &ASYNC },
    Border { package: "transport", ours: &["model"], never: &[] },
    Border { package: "queue", ours: &[], never: &NETWORK },
    Border { package: "tables", ours: &["abi"], never: &["aya", "tokio", "reqwest", "hyper"] },
    Border {
        package: "interpreters",
        ours: &["python", "tables"],
        never: &["aya", "tokio", "reqwest", "hyper"],
    },
    Border {
        package: "profiler",
        ours: &["abi", "unwind", "python", "tables", "interpreters", "bytecode", "symbolizer", "model"],
        never: &NETWORK,
    },
    Border { package: "enrich", ours: &["model", "labels", "transport"], never: &[] },
    Border { package: "discovery", ours: &["model", "labels"], never: &ASYNC },
    Border { package: "sources", ours: &["model", "labels", "transport"], never: &[] },
    Border { package: "sinks", ours: &["model", "labels", "transport", "queue"], never: &[] },
    Border { package: "store", ours: &["model"], never: &NETWORK },
    Border { package: "ui", ours: &["model", "store"], never: &[] },
    Border {
        package: "agent",
        ours: &[
            "model",
            "labels",
            "transport",
            "queue",
            "profiler",
            "enrich",
            "discovery",
            "sources",
            "sinks",
            "store",
            "ui",
        ],
        never: &[],
    },
    // It must build before anything is installed, so it uses nothing of ours.
    Border { package: "xtask", ours: &[], never: &NETWORK },
    // It drives the built binary from outside; the model decodes what comes back.
    Border { package: "tests", ours: &["model"], never: &[] },
    Border { package: "replay", ours: &["abi", "unwind", "tables"], never: &["aya", "tokio"] },
];

/// Crates that live in the named packages only.
const HOMES: [(&str, &[&str]); 23] = [
    ("aya", &["profiler", "abi"]),
    ("aya-ebpf", &["probes"]),
    ("libbpf-rs", &["profiler"]),
    ("libbpf-sys", &["profiler"]),
    ("perf-event-open-sys", &["profiler"]),
    ("gimli", &["tables"]),
    ("object", &["profiler", "tables", "interpreters", "replay"]),
    ("blazesym", &["symbolizer"]),
    ("rustc-demangle", &["symbolizer"]),
    ("cpp_demangle", &["symbolizer"]),
    ("regex", &["labels"]),
    ("hyper", &["transport"]),
    ("tonic", &["transport"]),
    ("rustls", &["transport"]),
    ("reqwest", &["transport"]),
    ("prost-build", &["model"]),
    ("protox", &["model"]),
    ("kube", &["enrich"]),
    ("k8s-openapi", &["enrich"]),
    ("snap", &["sinks"]),
    ("crc32fast", &["queue", "store"]),
    ("clap", &["agent", "xtask"]),
    ("saphyr", &["agent"]),
];

/// A workspace package and what its manifest asks for, development aside.
#[derive(Debug)]
pub(super) struct Package {
    pub(super) name: String,
    manifest: String,
    /// The manifest's text, to find lines in.
    text: String,
    dependencies: Vec<String>,
}

pub(super) fn read(root: &Path) -> Result<Vec<Package>> {
    let metadata = MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .no_deps()
        .exec()
        .context("cargo metadata")?;
    metadata
        .packages
        .into_iter()
        .map(|package| {
            let path = package.manifest_path.as_std_path();
            let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
            let manifest = path.strip_prefix(root).unwrap_or(path).display().to_string();
            let shipped = package.dependencies.into_iter().filter(|d| d.kind != DependencyKind::Development);
            let dependencies = shipped.map(|dependency| dependency.name).collect();
            Ok(Package { name: package.name.to_string(), manifest, text, dependencies })
        })
        .collect()
}

pub(super) fn check(packages: &[Package]) -> Vec<Finding> {
    let ours: HashSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let mut findings = Vec::new();
    for package in packages {
        let Some(border) = BORDERS.iter().find(|border| border.package == package.name) else {
            findings.push(package.finding("name", "the package is not in the table of borders"));
            continue;
        };
        for dependency in &package.dependencies {
            let dependency = dependency.as_str();
            let name = &package.name;
            if ours.contains(dependency) && !border.ours.contains(&dependency) {
                findings.push(package.finding(dependency, &format!("`{name}` may not use `{dependency}`")));
            }
            if border.never.contains(&dependency) {
                findings
                    .push(package.finding(dependency, &format!("`{name}` must never use `{dependency}`")));
            }
            let home = HOMES.iter().find(|(crate_name, _)| *crate_name == dependency);
            if let Some((_, homes)) = home.filter(|(_, homes)| !homes.contains(&name.as_str()))
                && name != "tests"
            {
                let rule = format!("`{dependency}` lives only in {}", homes.join(", "));
                findings.push(package.finding(dependency, &rule));
            }
        }
    }
    let gone = BORDERS.iter().filter(|border| !ours.contains(border.package));
    findings.extend(gone.map(|border| {
        Finding::new(
            "Cargo.toml",
            1,
            format!("the package `{}` of the table of borders is not there", border.package),
        )
    }));
    findings
}

impl Package {
    /// A finding at the line of the manifest that begins with `key`.
    fn finding(&self, key: &str, rule: &str) -> Finding {
        let line = self
            .text
            .lines()
            .position(|line| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(['.', ' ', '='])));
        Finding::new(&self.manifest, line.map_or(1, |index| index + 1), rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependencies: &[&str]) -> Package {
        let lines: Vec<String> =
            dependencies.iter().map(|name| format!("{name}.workspace = true\n")).collect();
        Package {
            name: name.to_owned(),
            manifest: format!("{name}/Cargo.toml"),
            text: format!("name = \"{name}\"\n{}", lines.concat()),
            dependencies: dependencies.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    /// What is found in these packages, the rest of the workspace being in order.
    fn found(packages: Vec<Package>) -> Vec<String> {
        let named: Vec<String> = packages.iter().map(|package| package.name.clone()).collect();
        let others = BORDERS.iter().filter(|border| !named.iter().any(|name| name == border.package));
        let all: Vec<Package> = packages.into_iter().chain(others.map(|b| package(b.package, &[]))).collect();
        check(&all).into_iter().map(|finding| finding.to_string()).collect()
    }

    #[test]
    fn an_order_that_holds_has_no_findings() {
        assert!(found(vec![package("sinks", &["model", "queue", "snap"])]).is_empty());
    }

    #[test]
    fn one_stage_seeing_another_is_found_at_its_line() {
        let rules = found(vec![package("sources", &["model", "sinks"])]);
        assert_eq!(rules, ["sources/Cargo.toml:3: `sources` may not use `sinks`"]);
    }

    #[test]
    fn nothing_depends_on_agent() {
        assert_eq!(found(vec![package("ui", &["agent"])]).len(), 1);
    }

    #[test]
    fn a_crate_away_from_its_home_is_found() {
        let rules = found(vec![package("store", &["blazesym"])]);
        assert_eq!(rules, ["store/Cargo.toml:2: `blazesym` lives only in symbolizer"]);
    }

    #[test]
    fn what_a_package_must_never_use_is_found() {
        let rules = found(vec![package("symbolizer", &["tokio"])]);
        assert_eq!(rules, ["symbolizer/Cargo.toml:2: `symbolizer` must never use `tokio`"]);
    }

    #[test]
    fn a_package_missing_from_the_table_or_the_workspace_is_found() {
        assert!(found(vec![package("helpers", &[])])[0].contains("not in the table"));
        assert_eq!(check(&[package("abi", &[])]).len(), BORDERS.len() - 1);
    }
}
