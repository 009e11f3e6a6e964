//! Functions and their times, as Pyroscope's flame graph and as kovar's own page have them.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Numbers of one bar in a level of Pyroscope's flame graph: offset, total, self, index of the name.
const BAR_NUMBERS: usize = 4;

/// All functions of one selection by name. Nothing in it may recurse, or its total counts twice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Functions {
    pub(crate) total_ns: u64,
    times: BTreeMap<String, Times>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Times {
    self_ns: u64,
    total_ns: u64,
}

impl Functions {
    /// The answer of Pyroscope's `SelectMergeStacktraces`, whose 64-bit numbers are strings.
    ///
    /// # Errors
    /// It is no such answer.
    pub(crate) fn of_pyroscope(answer: &Value) -> Result<Self> {
        let graph = &answer["flamegraph"];
        let names = graph["names"].as_array().map_or(&[][..], Vec::as_slice);
        let mut functions = Self::default();
        for level in graph["levels"].as_array().into_iter().flatten() {
            let numbers: Vec<u64> =
                level["values"].as_array().context("values")?.iter().map(number).collect::<Result<_>>()?;
            for bar in numbers.chunks_exact(BAR_NUMBERS) {
                let name = names.get(usize::try_from(bar[3])?).and_then(Value::as_str).context("a name")?;
                functions.add(name, bar[2], bar[1]);
            }
        }
        functions.total_ns = graph.get("total").map_or(Ok(0), number)?;
        Ok(functions)
    }

    /// The answer of kovar's `/api/v1/profile`.
    ///
    /// # Errors
    /// It is no such answer.
    pub(crate) fn of_kovar(answer: &Value) -> Result<Self> {
        let mut functions = Self { total_ns: number(&answer["total_ns"])?, ..Self::default() };
        for row in answer["top"].as_array().context("top")? {
            let frame = &answer["frames"][usize::try_from(number(&row[0])?)?];
            functions.add(frame["name"].as_str().context("a name")?, number(&row[1])?, number(&row[2])?);
        }
        Ok(functions)
    }

    /// The function with the most time of its own.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn top(&self) -> Result<&str> {
        let top = self.times.iter().max_by_key(|(_, times)| times.self_ns);
        Ok(top.context("no function")?.0)
    }

    /// A function's share of another's total, in percent.
    ///
    /// # Errors
    /// One of them is not there.
    pub(crate) fn percent_of(&self, function: &str, whole: &str) -> Result<f64> {
        let total_ns = |name: &str| self.times.get(name).map(|times| times.total_ns as f64);
        let whole_ns = total_ns(whole).with_context(|| format!("no {whole} in {self:?}"))?;
        ensure!(whole_ns > 0.0, "{whole} has no time");
        Ok(total_ns(function).with_context(|| format!("no {function} in {self:?}"))? * 100.0 / whole_ns)
    }

    fn add(&mut self, name: &str, self_ns: u64, total_ns: u64) {
        let times = self.times.entry(name.to_owned()).or_default();
        times.self_ns += self_ns;
        times.total_ns += total_ns;
    }
}

fn number(value: &Value) -> Result<u64> {
    let number = value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok()));
    number.with_context(|| format!("{value} is no number"))
}
