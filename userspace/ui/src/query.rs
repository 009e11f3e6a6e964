//! Parameters of a request: the time range, the filters, the grouping.

use store::{Frames, Matcher};

use crate::Error;

/// Longest range of a request, in milliseconds: 31 days.
pub(crate) const RANGE_MAX_MS: i64 = 31 * 24 * 3_600_000;
/// Longest value of a parameter, in bytes.
pub(crate) const VALUE_MAX_BYTES: usize = 1_024;
/// Most values of one filter.
pub(crate) const FILTER_VALUES_MAX: usize = 16;
/// Value of `container` for what runs in none.
pub(crate) const CONTAINER_NONE: &str = "none";

const DEFAULT_FROM: &str = "now-15m";
const DEFAULT_TO: &str = "now";
const BUCKETS_MAX: i64 = 240;
/// The finest is the profiler's default interval; a longer interval is spread over the steps that it covers, so
/// that a finer timeline would only repeat its mean.
const STEPS_MS: [i64; 13] = [
    15_000, 30_000, 60_000, 120_000, 300_000, 600_000, 900_000, 1_800_000, 3_600_000, 7_200_000, 10_800_000,
    21_600_000, 43_200_000,
];
const KNOWN: [&str; 7] = ["from", "to", "service", "container", "process", "frames", "group"];

/// The level that the flame graph has below its root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Group {
    #[default]
    None,
    Process,
    Pid,
    Container,
    Service,
}

/// A checked request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) from_unix_ms: i64,
    pub(crate) to_unix_ms: i64,
    pub(crate) matchers: Vec<Matcher>,
    pub(crate) frames: Frames,
    pub(crate) group: Group,
    pub(crate) step_ms: i64,
}

impl Request {
    /// Reads the parameters of a URL; times such as `now-15m` are relative to `now_unix_ms`.
    pub(crate) fn parse(pairs: &[(String, String)], now_unix_ms: i64) -> Result<Self, Error> {
        for (name, value) in pairs {
            check(name, value)?;
        }
        let (from, to) = (single(pairs, "from")?, single(pairs, "to")?);
        let from_unix_ms = time("from", from.unwrap_or(DEFAULT_FROM), now_unix_ms)?;
        let to_unix_ms = time("to", to.unwrap_or(DEFAULT_TO), now_unix_ms)?;
        if from_unix_ms >= to_unix_ms {
            return Err(bad("from", format!("it is not before to ({to_unix_ms})")));
        }
        let range_ms = to_unix_ms.saturating_sub(from_unix_ms);
        if range_ms > RANGE_MAX_MS {
            return Err(bad("from", "the range is longer than 31 days; ask for a shorter one".to_owned()));
        }
        let frames = match single(pairs, "frames")? {
            None | Some("all") => Frames::All,
            Some("kernel") => Frames::Kernel,
            Some("user") => Frames::User,
            Some(other) => return Err(bad("frames", format!("{other:?} is none of all, kernel, user"))),
        };
        let group = match single(pairs, "group")? {
            None | Some("none") => Group::None,
            Some("process") => Group::Process,
            Some("pid") => Group::Pid,
            Some("container") => Group::Container,
            Some("service") => Group::Service,
            Some(other) => {
                let choice = "none, process, pid, container, service";
                return Err(bad("group", format!("{other:?} is none of {choice}")));
            }
        };
        let mut matchers = Vec::new();
        for (parameter, label) in
            [("service", "service_name"), ("container", "container_id"), ("process", "process_name")]
        {
            matchers.extend(filter(pairs, parameter, label)?);
        }
        Ok(Self { from_unix_ms, to_unix_ms, matchers, frames, group, step_ms: step_ms(range_ms) })
    }

    /// The question for the store.
    pub(crate) fn to_store(&self, with_timeline: bool) -> store::Query {
        store::Query {
            from_unix_ms: self.from_unix_ms,
            to_unix_ms: self.to_unix_ms,
            matchers: self.matchers.clone(),
            frames: self.frames,
            step_ms: if with_timeline { u64::try_from(self.step_ms).unwrap_or(0) } else { 0 },
        }
    }
}

fn check(name: &str, value: &str) -> Result<(), Error> {
    if !KNOWN.contains(&name) {
        let shown: String = name.chars().take(64).collect();
        return Err(bad(&shown, format!("no such parameter; there are {}", KNOWN.join(", "))));
    }
    if value.len() > VALUE_MAX_BYTES {
        return Err(bad(name, format!("its value is longer than {VALUE_MAX_BYTES} bytes")));
    }
    Ok(())
}

/// The only value of a parameter; empty counts as absent.
fn single<'a>(pairs: &'a [(String, String)], name: &str) -> Result<Option<&'a str>, Error> {
    let mut values = pairs.iter().filter(|(n, v)| n == name && !v.is_empty());
    let value = values.next().map(|(_, v)| v.as_str());
    match values.next() {
        Some(_) => Err(bad(name, "it is given twice".to_owned())),
        None => Ok(value),
    }
}

fn filter(pairs: &[(String, String)], parameter: &str, label: &str) -> Result<Vec<Matcher>, Error> {
    let values: Vec<&str> =
        pairs.iter().filter(|(n, v)| n == parameter && !v.is_empty()).map(|(_, v)| v.as_str()).collect();
    if values.len() > FILTER_VALUES_MAX {
        return Err(bad(parameter, format!("more than {FILTER_VALUES_MAX} values")));
    }
    let absent = |value: &&str| label == "container_id" && *value == CONTAINER_NONE;
    let matchers = values.iter().map(|value| Matcher {
        label: label.to_owned(),
        value: if absent(value) { String::new() } else { (*value).to_owned() },
    });
    Ok(matchers.collect())
}

/// Unix milliseconds, `now`, or `now-` with a number and one of s, m, h, d.
fn time(name: &str, text: &str, now_unix_ms: i64) -> Result<i64, Error> {
    let wrong = || {
        let forms = "Unix milliseconds, \"now\" or such as \"now-15m\" (units s, m, h, d)";
        bad(name, format!("{text:?} is no time; give {forms}"))
    };
    if text == "now" {
        return Ok(now_unix_ms);
    }
    let Some(ago) = text.strip_prefix("now-") else {
        return digits(text).ok_or_else(wrong);
    };
    let mut chars = ago.chars();
    let unit_ms = match chars.next_back() {
        Some('s') => 1_000,
        Some('m') => 60_000,
        Some('h') => 3_600_000,
        Some('d') => 86_400_000,
        _ => return Err(wrong()),
    };
    let ago_ms = digits(chars.as_str()).and_then(|n| n.checked_mul(unit_ms)).ok_or_else(wrong)?;
    now_unix_ms.checked_sub(ago_ms).ok_or_else(wrong)
}

fn digits(text: &str) -> Option<i64> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

fn step_ms(range_ms: i64) -> i64 {
    let last = STEPS_MS[STEPS_MS.len() - 1];
    STEPS_MS.into_iter().find(|step| range_ms / step <= BUCKETS_MAX).unwrap_or(last)
}

fn bad(parameter: &str, reason: String) -> Error {
    Error::Parameter { parameter: parameter.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    fn parse(text: &str) -> Result<Request, Error> {
        let pairs: Vec<(String, String)> = text
            .split('&')
            .filter(|p| !p.is_empty())
            .map(|pair| pair.split_once('=').map(|(n, v)| (n.to_owned(), v.to_owned())).unwrap())
            .collect();
        Request::parse(&pairs, NOW)
    }

    #[test]
    fn without_parameters_it_is_the_last_15_minutes_of_everything() {
        let request = parse("").unwrap();
        assert_eq!((request.from_unix_ms, request.to_unix_ms), (NOW - 900_000, NOW));
        assert_eq!((request.frames, request.group, request.matchers.len()), (Frames::All, Group::None, 0));
    }

    #[test]
    fn times_are_absolute_or_relative() {
        for (text, expected) in
            [("now-90s", NOW - 90_000), ("now-2h", NOW - 7_200_000), ("now-1d", NOW - 86_400_000), ("5", 5)]
        {
            assert_eq!(time("from", text, NOW).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_an_error_that_names_the_parameter() {
        for text in [
            "x",
            "now-",
            "now-m",
            "now-5",
            "now-5x",
            "now+5m",
            "-5",
            "1e3",
            "now-99999999999999999d",
            "now-ü",
        ] {
            let error = parse(&format!("from={text}")).unwrap_err().to_string();
            assert!(error.contains("from"), "{error}");
        }
    }

    #[test]
    fn ranges_that_are_empty_or_too_long_are_errors() {
        for text in ["from=now&to=now", "from=2000&to=1000", "from=now-32d", "from=0"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn unknown_names_choices_and_doubles_are_errors() {
        for (text, named) in
            [("colour=red", "colour"), ("frames=both", "frames"), ("group=x", "group"), ("to=now&to=5", "to")]
        {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
        assert!(parse(&format!("process={}", "x".repeat(VALUE_MAX_BYTES + 1))).is_err());
        assert!(parse(&vec!["process=x"; FILTER_VALUES_MAX + 1].join("&")).is_err());
    }

    #[test]
    fn filters_become_matchers_and_none_means_no_container() {
        let request = parse("container=none&process=a&process=b&service=").unwrap();
        let matchers: Vec<_> =
            request.matchers.iter().map(|m| (m.label.as_str(), m.value.as_str())).collect();
        assert_eq!(matchers, [("container_id", ""), ("process_name", "a"), ("process_name", "b")]);
    }

    #[test]
    fn a_timeline_has_at_most_240_whole_buckets() {
        for range_ms in [60_000, 900_000, 3_600_000, 21_600_000, 86_400_000, RANGE_MAX_MS] {
            let step = step_ms(range_ms);
            assert!(range_ms / step <= BUCKETS_MAX && step % STEPS_MS[0] == 0, "{range_ms} {step}");
        }
    }
}
