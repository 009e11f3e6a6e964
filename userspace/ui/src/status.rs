//! The state of the collector, as the agent knows it and the page shows it.

use serde::{Serialize, Serializer, ser::SerializeStruct};

/// Everything that is not in the store.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    pub version: String,
    pub node: String,
    pub started_unix_ms: i64,
    /// The error says what is wrong, and what to do.
    #[serde(serialize_with = "health")]
    pub healthy: Result<(), String>,
    pub ticks: Ticks,
    pub destinations: Vec<Destination>,
}

/// What became of the samples since the start.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Ticks {
    /// Ticks that the kernel's own counters saw.
    pub counted: u64,
    pub delivered: u64,
    /// Ticks that met an idle CPU.
    pub idle: u64,
    pub lost: Vec<Lost>,
}

/// Samples that were not delivered for one reason.
#[derive(Debug, Clone, Serialize)]
pub struct Lost {
    pub reason: String,
    pub ticks: u64,
}

/// One place where data is sent.
#[derive(Debug, Clone, Serialize)]
pub struct Destination {
    pub name: String,
    pub kind: String,
    /// Shown without user and password.
    #[serde(serialize_with = "public_url")]
    pub url: String,
    pub state: String,
    pub last_error: Option<String>,
    pub records_pending: u64,
}

fn health<S: Serializer>(healthy: &Result<(), String>, serializer: S) -> Result<S::Ok, S::Error> {
    let mut fields = serializer.serialize_struct("Health", 2)?;
    fields.serialize_field("ok", &healthy.is_ok())?;
    fields.serialize_field("message", &healthy.as_ref().err())?;
    fields.end()
}

fn public_url<S: Serializer>(url: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&without_secrets(url))
}

/// The URL without user information and query, both of which may hold a secret.
fn without_secrets(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if scheme.is_empty() { format!("{host}{path}") } else { format!("{scheme}://{host}{path}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_secrets() {
        for (url, shown) in [
            ("http://pyroscope:4040", "http://pyroscope:4040"),
            ("https://me:pass@host/a/b", "https://host/a/b"),
            ("https://me:p@ss@host/a@b?token=1", "https://host/a@b"),
            ("host:1", "host:1"),
        ] {
            assert_eq!(without_secrets(url), shown);
        }
    }

    #[test]
    fn health_is_a_flag_and_a_message() {
        let mut status = Status {
            version: "1".to_owned(),
            node: "n".to_owned(),
            started_unix_ms: 0,
            healthy: Ok(()),
            ticks: Ticks::default(),
            destinations: Vec::new(),
        };
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(json["healthy"], serde_json::json!({"ok": true, "message": null}));
        status.healthy = Err("no BTF".to_owned());
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(json["healthy"], serde_json::json!({"ok": false, "message": "no BTF"}));
    }
}
