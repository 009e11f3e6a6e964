//! What a setting is: how it is read, shown and documented; and the macro that keeps all of that in one place.

use super::document::{Node, Value};
use super::problem::{Position, Problems};
use super::reference::Page;
use std::fmt::Display;

/// Names below this likeness (Jaro-Winkler, 0 to 1) are no suggestion.
const LIKENESS_MIN: f64 = 0.75;

/// Something that stands at a path of the configuration file.
pub(crate) trait Setting: Sized {
    /// What the reference page calls the type.
    const KIND: &'static str;

    /// Reads the value of `path`. What is wrong goes to `problems`; `None` when there is nothing to go on with.
    fn read(node: &Node, path: &str, problems: &mut Problems) -> Option<Self>;

    /// The value as it stands in the effective configuration; secrets are hidden.
    fn show(&self) -> Shown;

    /// Adds what is below `path` to the reference page; a plain value has nothing below it.
    fn document(_path: &str, _page: &mut Page) {}

    /// Whether this has settings below it, and so a chapter of its own on the reference page.
    const IS_SECTION: bool = false;
}

/// A value as `kovar config` prints it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shown {
    Nothing,
    /// A number, a flag, a duration: printed as it is.
    Plain(String),
    /// Printed in quotes, so that it can hold anything.
    Text(String),
    List(Vec<Shown>),
    Map(Vec<(String, Shown)>),
}

/// Where the keys of a section were written, for problems that need more than one of them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Places {
    section: Position,
    keys: Vec<(&'static str, Position)>,
}

impl Places {
    pub(crate) fn new(section: Position) -> Self {
        Self { section, keys: Vec::new() }
    }

    pub(crate) fn add(&mut self, key: &'static str, at: Position) {
        self.keys.push((key, at));
    }

    /// Whether the file sets `key`.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.keys.iter().any(|(name, _)| *name == key)
    }

    /// The place of `key`, or of the section when the file does not set it.
    pub(crate) fn of(&self, key: &str) -> Position {
        self.keys.iter().find(|(name, _)| *name == key).map_or(self.section, |(_, at)| *at)
    }
}

/// The entries of a section, or nothing when it is empty or not a mapping.
pub(crate) fn entries<'a>(
    node: &'a Node,
    path: &str,
    problems: &mut Problems,
) -> &'a [(super::document::Key, Node)] {
    match &node.value {
        Value::Map(entries) => entries,
        Value::Null => &[],
        _ => {
            problems.add(
                node.at,
                format!("{} must be a mapping of settings, found {}", named(path), node.kind()),
            );
            &[]
        }
    }
}

/// `path` below `section`.
pub(crate) fn below(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}

/// Says that `key` is no setting of `section`, and which one may have been meant.
pub(crate) fn unknown(
    section: &str,
    key: &super::document::Key,
    known: &[&'static str],
    problems: &mut Problems,
) {
    let likeness = |name: &&&'static str| strsim::jaro_winkler(name, &key.name);
    let nearest = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    let path = below(section, &key.name);
    let text = match nearest.filter(|name| likeness(name) >= LIKENESS_MIN) {
        Some(name) => format!("unknown setting `{path}`; did you mean `{name}`?"),
        None => format!("unknown setting `{path}`; here are possible: {}", known.join(", ")),
    };
    problems.add(key.at, text);
}

/// Checks a number against its limits.
pub(crate) fn within<T: PartialOrd + Display>(
    value: T,
    limits: std::ops::RangeInclusive<T>,
    at: Position,
    path: &str,
    problems: &mut Problems,
) -> Option<T> {
    if limits.contains(&value) {
        return Some(value);
    }
    problems.add(at, format!("`{path}` must be from {} to {}, it is {value}", limits.start(), limits.end()));
    None
}

fn named(path: &str) -> String {
    if path.is_empty() { "the file".to_owned() } else { format!("`{path}`") }
}

impl<T: Setting> Setting for Option<T> {
    const KIND: &'static str = T::KIND;
    const IS_SECTION: bool = T::IS_SECTION;

    fn read(node: &Node, path: &str, problems: &mut Problems) -> Option<Self> {
        T::read(node, path, problems).map(Some)
    }

    fn show(&self) -> Shown {
        self.as_ref().map_or(Shown::Nothing, T::show)
    }

    fn document(path: &str, page: &mut Page) {
        T::document(path, page);
    }
}

impl<T: Setting> Setting for Vec<T> {
    const KIND: &'static str = "list";
    const IS_SECTION: bool = T::IS_SECTION;

    fn read(node: &Node, path: &str, problems: &mut Problems) -> Option<Self> {
        let Value::List(items) = &node.value else {
            problems.add(
                node.at,
                format!("`{path}` must be a list, each entry starting with `- `, found {}", node.kind()),
            );
            return None;
        };
        let read = |(i, item)| T::read(item, &format!("{path}[{i}]"), problems);
        Some(items.iter().enumerate().filter_map(read).collect())
    }

    fn show(&self) -> Shown {
        Shown::List(self.iter().map(T::show).collect())
    }

    fn document(path: &str, page: &mut Page) {
        T::document(&format!("{path}[]"), page);
    }
}

/// Declares a section: each setting's name, type, default, limits, unit and documentation stand together.
///
/// `name: Type = default` gives the value when the file does not set it, `= required` makes its absence an error,
/// `= section` is a section whose own defaults hold. `in low..=high` limits it, `unit "…"` names what it counts.
macro_rules! section {
    (
        $(#[doc = $section_doc:literal])*
        $vis:vis struct $section:ident {
            $(
                $(#[doc = $doc:literal])*
                $name:ident: $type:ty = $default:tt $(, in $limits:expr)? $(, unit $unit:literal)?;
            )*
        }
    ) => {
        $(#[doc = $section_doc])*
        #[derive(Debug, Clone, PartialEq)]
        $vis struct $section {
            $($(#[doc = $doc])* pub(crate) $name: $type,)*
            pub(crate) places: $crate::config::setting::Places,
        }

        impl $crate::config::setting::Setting for $section {
            const KIND: &'static str = "section";
            const IS_SECTION: bool = true;

            fn read(
                node: &$crate::config::document::Node,
                path: &str,
                problems: &mut $crate::config::problem::Problems,
            ) -> Option<Self> {
                #[allow(unused_imports, reason = "a section without limits does not use them all")]
                use $crate::config::{document, setting};
                let mut places = setting::Places::new(node.at);
                $(let mut $name: Option<$type> = None;)*
                let mut failed = Vec::new();
                for (key, value) in setting::entries(node, path, problems) {
                    match key.name.as_str() {
                        $(stringify!($name) => {
                            if value.value == document::Value::Null {
                                continue;
                            }
                            places.add(stringify!($name), value.at);
                            let here = setting::below(path, stringify!($name));
                            let read = <$type as setting::Setting>::read(value, &here, problems);
                            $(let read = read.and_then(|it| {
                                setting::within(it, $limits, value.at, &here, problems)
                            });)?
                            if read.is_none() {
                                failed.push(stringify!($name));
                            }
                            $name = read;
                        })*
                        _ => setting::unknown(path, key, &[$(stringify!($name)),*], problems),
                    }
                }
                $(let $name = $crate::config::setting::default!(
                    $name, $type, node, path, problems, failed, $default
                );)*
                Some(Self { $($name: $name?,)* places })
            }

            fn show(&self) -> $crate::config::setting::Shown {
                use $crate::config::setting::Setting;
                $crate::config::setting::Shown::Map(vec![
                    $((stringify!($name).to_owned(), Setting::show(&self.$name)),)*
                ])
            }

            fn document(path: &str, page: &mut $crate::config::reference::Page) {
                #[allow(unused_imports, reason = "depends on the kinds of settings in the section")]
                use $crate::config::{reference, setting};
                page.chapter(path, &[$($section_doc),*]);
                $(if !<$type as setting::Setting>::IS_SECTION {
                    page.row(reference::Row {
                        name: stringify!($name),
                        kind: <$type as setting::Setting>::KIND,
                        default: setting::default_shown!($type, $default),
                        limits: setting::limits_shown!($type $(, $limits)?),
                        unit: setting::unit_shown!($($unit)?),
                        doc: &[$($doc),*],
                    });
                })*
                $(if <$type as setting::Setting>::IS_SECTION {
                    <$type as setting::Setting>::document(
                        &setting::below(path, stringify!($name)), page,
                    );
                })*
            }
        }
    };
}

/// The value of a setting that the file does not give.
macro_rules! default {
    ($name:ident, $type:ty, $node:ident, $path:ident, $problems:ident, $failed:ident, required) => {{
        if $name.is_none() && !$failed.contains(&stringify!($name)) {
            let path = $crate::config::setting::below($path, stringify!($name));
            $problems.add($node.at, format!("`{path}` is missing; it has no default"));
        }
        $name
    }};
    ($name:ident, $type:ty, $node:ident, $path:ident, $problems:ident, $failed:ident, section) => {
        match $name {
            Some(section) => Some(section),
            None => {
                let empty = $crate::config::document::Node {
                    at: $node.at,
                    ..$crate::config::document::Node::empty()
                };
                let path = $crate::config::setting::below($path, stringify!($name));
                <$type as $crate::config::setting::Setting>::read(&empty, &path, $problems)
            }
        }
    };
    ($name:ident, $type:ty, $node:ident, $path:ident, $problems:ident, $failed:ident, $default:expr) => {
        Some($name.unwrap_or_else(|| $default))
    };
}

/// The default as the reference page shows it.
macro_rules! default_shown {
    ($type:ty, required) => {
        $crate::config::reference::Default::Required
    };
    ($type:ty, section) => {
        $crate::config::reference::Default::Value($crate::config::setting::Shown::Nothing)
    };
    ($type:ty, $default:expr) => {
        $crate::config::reference::Default::Value(<$type as $crate::config::setting::Setting>::show(
            &$default,
        ))
    };
}

macro_rules! limits_shown {
    ($type:ty) => {
        None
    };
    ($type:ty, $limits:expr) => {{
        let limits: std::ops::RangeInclusive<$type> = $limits;
        Some(format!("{} to {}", limits.start(), limits.end()))
    }};
}

macro_rules! unit_shown {
    () => {
        None
    };
    ($unit:literal) => {
        Some($unit)
    };
}

pub(crate) use {default, default_shown, limits_shown, section, unit_shown};
