//! The lab's Pyroscope and what it answers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::http;
use tests::kovar::Running;
use tests::lab::Lab;

use crate::functions::Functions;

/// What CPU profiles are called there.
const PROFILE_TYPE: &str = "process_cpu:cpu:nanoseconds:cpu:nanoseconds";
/// How far back is asked for; no test takes that long.
const RANGE: Duration = Duration::from_secs(3600);

/// Stopped when it is dropped.
#[derive(Debug)]
pub(crate) struct Pyroscope {
    lab: Lab,
    address: SocketAddr,
}

impl Pyroscope {
    /// # Errors
    /// It cannot be built or started.
    pub(crate) fn start() -> Result<Self> {
        let lab = Lab::start("pyroscope")?;
        let url = lab.value("url")?;
        let address = url.strip_prefix("http://").context("no http in the url")?.parse()?;
        Ok(Self { lab, address })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The id of the server's process.
    ///
    /// # Errors
    /// The lab did not print it.
    pub(crate) fn pid(&self) -> Result<i32> {
        Ok(self.lab.value("pid")?.parse()?)
    }

    /// Every service that ever pushed.
    ///
    /// # Errors
    /// Another answer than 200.
    pub(crate) fn services(&self) -> Result<Vec<String>> {
        let answer = self.ask("LabelValues", range(json!({ "name": "service_name" })))?;
        Ok(serde_json::from_value(answer.get("names").cloned().unwrap_or_else(|| json!([])))?)
    }

    /// The labels of each series of a service.
    ///
    /// # Errors
    /// Another answer than 200.
    pub(crate) fn series(&self, service: &str) -> Result<Vec<BTreeMap<String, String>>> {
        let answer = self.ask("Series", range(json!({ "matchers": [selector(service)] })))?;
        let sets = answer["labelsSet"].as_array().map_or(&[][..], Vec::as_slice);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let labels = |set: &Value| {
            let pairs = set["labels"].as_array().into_iter().flatten();
            pairs.map(|pair| (text(&pair["name"]), text(&pair["value"]))).collect()
        };
        Ok(sets.iter().map(labels).collect())
    }

    /// What a service spent its CPU time in.
    ///
    /// # Errors
    /// Another answer than 200, or no flame graph.
    pub(crate) fn functions(&self, service: &str) -> Result<Functions> {
        let question = json!({ "profileTypeID": PROFILE_TYPE, "labelSelector": selector(service) });
        Functions::of_pyroscope(&self.ask("SelectMergeStacktraces", range(question))?)
    }

    fn ask(&self, method: &str, question: Value) -> Result<Value> {
        let path = format!("/querier.v1.QuerierService/{method}");
        let answer = http::post(self.address, &path, "application/json", question.to_string().as_bytes())?;
        ensure!(answer.status == 200, "{path} {question}: {} {}", answer.status, answer.text());
        serde_json::from_slice(&answer.body).with_context(|| answer.text())
    }
}

/// What kovar's own page shows of a process over the same range.
///
/// # Errors
/// Another answer than 200.
pub(crate) fn own_functions(kovar: &Running, process: &str) -> Result<Functions> {
    Functions::of_kovar(&kovar.json(&format!("/api/v1/profile?from=now-1h&process={process}"))?)
}

fn selector(service: &str) -> String {
    format!("{{service_name={service:?}}}")
}

fn range(mut question: Value) -> Value {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    question["start"] = json!(now.saturating_sub(RANGE).as_millis() as u64);
    question["end"] = json!(now.as_millis() as u64);
    question
}
