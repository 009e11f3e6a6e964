//! The plain kinds of values a setting can have.

use super::document::{Node, Value};
use super::problem::Problems;

use super::setting::{Setting, Shown};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use transport::Secret;

/// Units of a duration, largest first, in milliseconds.
const INTERVAL_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Units of a size, largest first, in bytes.
const SIZE_UNITS: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// A duration written like `15s`; whole milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Interval {
    ms: u64,
}

impl Interval {
    pub(crate) const fn ms(ms: u64) -> Self {
        Self { ms }
    }

    pub(crate) const fn seconds(seconds: u64) -> Self {
        Self { ms: seconds * 1000 }
    }

    pub(crate) const fn hours(hours: u64) -> Self {
        Self::seconds(hours * 3600)
    }

    pub(crate) const fn as_ms(self) -> u64 {
        self.ms
    }

    pub(crate) const fn duration(self) -> Duration {
        Duration::from_millis(self.ms)
    }
}

impl FromStr for Interval {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        with_unit(text, &INTERVAL_UNITS)
            .map(Self::ms)
            .ok_or_else(|| "a duration is a whole number and a unit: ms, s, m, h or d, as in `15s`".into())
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A day reads better as 24h where it is a default or a limit of hours.
        let units = if self.ms <= 48 * 3_600_000 { &INTERVAL_UNITS[1..] } else { &INTERVAL_UNITS[..] };
        show_with_unit(self.ms, units, "s", f)
    }
}

/// A number of bytes written like `256MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size {
    bytes: u64,
}

impl Size {
    pub(crate) const fn mib(mib: u64) -> Self {
        Self { bytes: mib << 20 }
    }

    pub(crate) const fn gib(gib: u64) -> Self {
        Self { bytes: gib << 30 }
    }

    pub(crate) const fn bytes(self) -> u64 {
        self.bytes
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        with_unit(text, &SIZE_UNITS).map(|bytes| Self { bytes }).ok_or_else(|| {
            "a size is a whole number and a unit: B, KiB, MiB, GiB or TiB, as in `256MiB`".into()
        })
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show_with_unit(self.bytes, &SIZE_UNITS, "B", f)
    }
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let unit = text[digits..].trim_start();
    units.iter().find(|(name, _)| *name == unit).and_then(|(_, factor)| number.checked_mul(*factor))
}

fn show_with_unit(
    value: u64,
    units: &[(&str, u64)],
    of_zero: &str,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    match units.iter().find(|(_, factor)| value > 0 && value.is_multiple_of(*factor)) {
        Some((unit, factor)) => write!(f, "{}{unit}", value / factor),
        None => write!(f, "0{of_zero}"),
    }
}

/// The address of a backend, without a trailing slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url(String);

impl Url {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Host and port, the scheme's own port where none is written.
    pub(crate) fn host_and_port(&self) -> (String, u16) {
        let (port, rest) = match self.0.split_once("://") {
            Some(("https", rest)) => (443, rest),
            Some((_, rest)) => (80, rest),
            None => (80, self.0.as_str()),
        };
        let authority = rest.split('/').next().unwrap_or_default();
        match authority.rsplit_once(':') {
            Some((host, digits)) if !digits.contains(']') => {
                (host.trim_matches(['[', ']']).to_owned(), digits.parse().unwrap_or(port))
            }
            _ => (authority.trim_matches(['[', ']']).to_owned(), port),
        }
    }
}

impl FromStr for Url {
    type Err = String;

    /// The text of an error never repeats the address: it may hold a password.
    fn from_str(text: &str) -> Result<Self, String> {
        let example = "as in `http://pyroscope:4040`";
        if !text.starts_with("http://") && !text.starts_with("https://") {
            return Err(format!("an address starts with `http://` or `https://`, {example}"));
        }
        let authority = text.split('/').nth(2).unwrap_or_default();
        if authority.contains('@') {
            return Err("a user and password do not belong into an address; use `basic_auth`".into());
        }
        if text.contains('?') {
            return Err(format!("an address has no `?`, {example}"));
        }
        if authority.ends_with(":0") {
            return Err(format!("port 0 cannot be reached, {example}"));
        }
        transport::Url::parse("url", text).map_err(|error| match error {
            transport::Error::Config { problem, .. } => problem,
            other => other.to_string(),
        })?;
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}

/// Label names and values, sorted by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Labels(pub(crate) BTreeMap<String, String>);

/// HTTP header fields; their values may be credentials, so they are never shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Headers(pub(crate) BTreeMap<String, Secret>);

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Level {
    const ALL: [(&str, Self); 5] = [
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];

    pub(crate) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, level)| *level == self).map_or("info", |(name, _)| name)
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, level)| *level)
            .ok_or_else(|| "a level is one of error, warn, info, debug, trace".into())
    }
}

/// A scalar setting, read by `parse`; its problem is put behind the setting's path.
fn scalar<T>(
    node: &Node,
    path: &str,
    expected: &str,
    problems: &mut Problems,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Option<T> {
    let Value::Scalar(text) = &node.value else {
        problems.add(node.at, format!("`{path}` must be {expected}, found {}", node.kind()));
        return None;
    };
    match parse(text) {
        Ok(value) => Some(value),
        Err(problem) => {
            problems.add(node.at, format!("`{path}`: {problem}"));
            None
        }
    }
}

/// Implements `Setting` for a kind of value that is one word of the file.
macro_rules! scalar_setting {
    ($type:ty, $kind:literal, $expected:literal, $parse:expr, $show:expr) => {
        impl Setting for $type {
            const KIND: &'static str = $kind;

            fn read(node: &Node, path: &str, problems: &mut Problems) -> Option<Self> {
                scalar(node, path, $expected, problems, $parse)
            }

            fn show(&self) -> Shown {
                $show(self)
            }
        }
    };
}

scalar_setting!(
    bool,
    "flag",
    "`true` or `false`",
    |text| text.parse().ok().ok_or_else(|| "must be `true` or `false`".to_owned()),
    |value: &bool| Shown::Plain(value.to_string())
);
scalar_setting!(
    u32,
    "number",
    "a whole number",
    |text| text.parse().ok().ok_or_else(|| "must be a whole number of 0 or more".to_owned()),
    |value: &u32| Shown::Plain(value.to_string())
);
scalar_setting!(
    String,
    "text",
    "a text",
    |text| match text.is_empty() {
        true => Err("must not be empty".to_owned()),
        false => Ok(text.to_owned()),
    },
    |value: &String| Shown::Text(value.clone())
);
scalar_setting!(
    PathBuf,
    "path",
    "a path",
    |text| match text.starts_with('/') {
        true => Ok(Self::from(text)),
        false => Err("must be an absolute path, starting with `/`".to_owned()),
    },
    |value: &PathBuf| Shown::Text(value.display().to_string())
);
scalar_setting!(
    SocketAddr,
    "address",
    "an IP address and a port",
    |text| text
        .parse()
        .ok()
        .ok_or_else(|| "must be an IP address and a port, as in `0.0.0.0:12345`".to_owned()),
    |value: &SocketAddr| Shown::Text(value.to_string())
);
scalar_setting!(Interval, "duration", "a duration such as `15s`", str::parse, |value: &Interval| {
    Shown::Plain(value.to_string())
});
scalar_setting!(Size, "size", "a size such as `256MiB`", str::parse, |value: &Size| Shown::Plain(
    value.to_string()
));
scalar_setting!(Url, "URL", "an address such as `http://pyroscope:4040`", str::parse, |value: &Url| {
    Shown::Text(value.0.clone())
});
scalar_setting!(Level, "level", "a level such as `info`", str::parse, |value: &Level| Shown::Plain(
    value.name().to_owned()
));
scalar_setting!(
    Secret,
    "secret",
    "a text",
    |text| match text.is_empty() {
        true => Err("must not be empty".to_owned()),
        false => Ok(Secret::new(text)),
    },
    |_: &Secret| Shown::Plain("***".to_owned())
);

/// The entries of a mapping of names to texts, each name checked by `check`.
fn texts(
    node: &Node,
    path: &str,
    problems: &mut Problems,
    check: fn(&str) -> Result<(), &'static str>,
) -> Option<BTreeMap<String, String>> {
    let Value::Map(entries) = &node.value else {
        problems.add(node.at, format!("`{path}` must be a mapping of names to texts, found {}", node.kind()));
        return None;
    };
    let mut texts = BTreeMap::new();
    for (key, value) in entries {
        if let Err(problem) = check(&key.name) {
            problems.add(key.at, format!("`{path}.{}`: {problem}", key.name));
        }
        match &value.value {
            Value::Scalar(text) => {
                texts.insert(key.name.clone(), text.clone());
            }
            _ => problems
                .add(value.at, format!("`{path}.{}` must be a text, found {}", key.name, value.kind())),
        }
    }
    Some(texts)
}

impl Setting for Labels {
    const KIND: &'static str = "names and texts";

    fn read(node: &Node, path: &str, problems: &mut Problems) -> Option<Self> {
        texts(node, path, problems, |name| match labels::is_valid_label_name(name) {
            true => Ok(()),
            false => {
                Err("a label's name has letters, digits and `_`, and starts with neither a digit nor `__`")
            }
        })
        .map(Self)
    }

    fn show(&self) -> Shown {
        Shown::Map(self.0.iter().map(|(name, value)| (name.clone(), Shown::Text(value.clone()))).collect())
    }
}

impl Setting for Headers {
    const KIND: &'static str = "names and secrets";

    fn read(node: &Node, path: &str, problems: &mut Problems) -> Option<Self> {
        let texts = texts(node, path, problems, |name| {
            let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
            if name.is_empty() || !name.chars().all(token) {
                return Err("not a header's name");
            }
            Ok(())
        })?;
        Some(Self(texts.into_iter().map(|(name, value)| (name, Secret::new(value))).collect()))
    }

    fn show(&self) -> Shown {
        Shown::Map(self.0.keys().map(|name| (name.clone(), Shown::Plain("***".into()))).collect())
    }
}

#[cfg(test)]
mod tests;
