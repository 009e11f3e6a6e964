//! Debian's cloud kernels: chosen from the Packages index, unpacked into target/lab/kernels, never installed.

use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::archive::{Archive, Package};
use crate::lab::BuildLock;
use crate::workspace;

const NAMES: &str = "^linux-(image|binary)-.*-cloud-amd64$";
const SUFFIX: &str = "-cloud-amd64";

/// A line of kernels.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) name: &'static str,
    /// Of a suite that moves on: when the series has left it, the newest kernel there is takes its place.
    rolling: bool,
}

pub(super) const SERIES: [Series; 4] = [
    Series { name: "5.10", rolling: false },
    Series { name: "6.1", rolling: false },
    Series { name: "6.12", rolling: false },
    Series { name: "7.2", rolling: true },
];

/// An unpacked kernel.
#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) series: &'static str,
    pub(super) package: String,
    pub(super) image: PathBuf,
}

/// The kernel that was unpacked before, or the newest of its series.
pub(super) fn fetch(series: &'static Series) -> Result<Kernel> {
    let home = workspace::lab().join("kernels").join(series.name);
    let _lock = BuildLock::take("kernels")?;
    if let Ok(package) = fs::read_to_string(home.join("package")) {
        return Ok(Kernel { series: series.name, package, image: image_in(&home)? });
    }
    let archive = Archive::open()?;
    let packages = archive.search(NAMES)?;
    let Some(package) = choose(&packages, series) else {
        bail!("Debian has no cloud kernel {} any more", series.name);
    };
    archive.unpack(&format!("{}={}", package.name, package.version), &home)?;
    let image = image_in(&home)?;
    fs::write(home.join("package"), &package.name).with_context(|| home.display().to_string())?;
    Ok(Kernel { series: series.name, package: package.name.clone(), image })
}

fn choose<'a>(packages: &'a [Package], series: &Series) -> Option<&'a Package> {
    // Where one package holds the image and another only depends on it, the image's is called linux-binary.
    let newest = |is_wanted: &dyn Fn(&str) -> bool| {
        packages
            .iter()
            .filter(|package| release(&package.name).is_some_and(is_wanted))
            .max_by(|a, b| compare(&a.version, &b.version).then(b.name.cmp(&a.name)))
    };
    let found = newest(&|release| {
        release.strip_prefix(series.name).is_some_and(|rest| rest.starts_with(['.', '+', '-']))
    });
    if found.is_none() && series.rolling {
        eprintln!("Debian has no kernel {} any more: taking its newest", series.name);
        return newest(&|_| true);
    }
    found
}

/// The kernel's release from the package's name: `6.1.0-50` of `linux-image-6.1.0-50-cloud-amd64`.
fn release(name: &str) -> Option<&str> {
    let name = name.strip_prefix("linux-binary-").or_else(|| name.strip_prefix("linux-image-"))?;
    let release = name.strip_suffix(SUFFIX)?;
    release.starts_with(|c: char| c.is_ascii_digit()).then_some(release)
}

/// Debian's order of versions without epochs: text and numbers in turn, `~` before everything.
fn compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    while !a.is_empty() || !b.is_empty() {
        let (text_a, text_b) = (take(&mut a, |c| !c.is_ascii_digit()), take(&mut b, |c| !c.is_ascii_digit()));
        let weights = |text: &str| text.chars().map(weight).chain([0]).collect::<Vec<i32>>();
        let order = weights(text_a).cmp(&weights(text_b));
        let number = |digits: &str| digits.parse::<u64>().unwrap_or(0);
        let (digits_a, digits_b) =
            (take(&mut a, |c| c.is_ascii_digit()), take(&mut b, |c| c.is_ascii_digit()));
        let order = order.then(number(digits_a).cmp(&number(digits_b)));
        if order != Ordering::Equal {
            return order;
        }
    }
    Ordering::Equal
}

fn take<'a>(text: &mut &'a str, is_part: impl Fn(char) -> bool) -> &'a str {
    let end = text.find(|c| !is_part(c)).unwrap_or(text.len());
    let (part, rest) = text.split_at(end);
    *text = rest;
    part
}

fn weight(c: char) -> i32 {
    match c {
        '~' => -1,
        c if c.is_ascii_alphabetic() => i32::from(c as u8),
        c => 256 + i32::from(u8::try_from(c).unwrap_or(u8::MAX)),
    }
}

/// /boot/vmlinuz-*, or usr/lib/modules/*/vmlinuz where the package leaves the copy to its installation.
fn image_in(home: &Path) -> Result<PathBuf> {
    let entries = |dir: PathBuf| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_image = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz")) && path.is_file()
    };
    let in_boot = entries(home.join("boot"));
    let in_modules = entries(home.join("usr/lib/modules")).map(|dir| dir.join("vmlinuz"));
    match in_boot.chain(in_modules).find(is_image) {
        Some(image) => Ok(image),
        None => bail!("{} holds no vmlinuz; remove it to fetch it again", home.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str) -> Package {
        Package { name: name.to_owned(), version: version.to_owned() }
    }

    fn sample() -> Vec<Package> {
        vec![
            package("linux-image-6.1.0-9-cloud-amd64", "6.1.27-1"),
            package("linux-image-6.1.0-50-cloud-amd64", "6.1.176-1"),
            package("linux-image-6.1.0-50-cloud-amd64-dbg", "6.1.176-1"),
            package("linux-image-6.1.0-50-cloud-amd64-unsigned", "6.1.176-2"),
            package("linux-image-6.12.117+deb13-cloud-amd64", "6.12.117-1"),
            package("linux-image-7.3.13+deb14-cloud-amd64", "7.3.13-1"),
            package("linux-binary-7.3.13+deb14-cloud-amd64", "7.3.13-1"),
            package("linux-binary-unsigned-7.3.13+deb14-cloud-amd64", "7.3.13-1"),
        ]
    }

    fn chosen(name: &'static str, rolling: bool) -> Option<String> {
        choose(&sample(), &Series { name, rolling }).map(|package| package.name.clone())
    }

    #[test]
    fn the_newest_signed_image_of_the_series_is_chosen() {
        assert_eq!(chosen("6.1", false).as_deref(), Some("linux-image-6.1.0-50-cloud-amd64"));
        assert_eq!(chosen("6.12", false).as_deref(), Some("linux-image-6.12.117+deb13-cloud-amd64"));
        assert_eq!(chosen("5.10", false), None);
    }

    #[test]
    fn a_rolling_series_that_is_gone_gives_way_to_the_newest_binary() {
        assert_eq!(chosen("7.2", true).as_deref(), Some("linux-binary-7.3.13+deb14-cloud-amd64"));
        assert_eq!(chosen("7.2", false), None);
    }

    #[test]
    fn versions_are_ordered_as_dpkg_orders_them() {
        for (older, newer) in [
            ("6.1.9-1", "6.1.10-1"),
            ("7.2~rc4-1", "7.2-1"),
            ("6.1.1-1", "6.1.1-1+b1"),
            ("1.0", "1.0a"),
            ("1a", "1+"),
        ] {
            assert_eq!(compare(older, newer), Ordering::Less, "{older} {newer}");
            assert_eq!(compare(newer, older), Ordering::Greater, "{older} {newer}");
        }
        assert_eq!(compare("6.1.9-1", "6.1.09-1"), Ordering::Equal);
    }
}
