//! What a place reports to the run while its tests go on, as one JSON document a line: written and read here.

use crate::test::{Ended, Verdict};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::time::Duration;

/// What happened in a place.
pub(crate) enum TestEvent {
    /// It has that many tests to run.
    Begun { place: String, tests: usize },
    /// One of them has ended.
    Ended { place: String, test: Ended },
    /// It has run them all.
    Done { place: String, took: Duration },
}

impl TestEvent {
    pub(crate) fn line(&self) -> String {
        let value = match self {
            Self::Begun { place, tests } => json!({ "place": place, "tests": tests }),
            Self::Done { place, took } => json!({ "place": place, "done": took.as_secs_f64() }),
            Self::Ended { place, test } => {
                let (verdict, why) = match &test.verdict {
                    Verdict::Passed => ("passed", ""),
                    Verdict::Skipped(why) => ("skipped", why.as_str()),
                    Verdict::Failed(why) => ("failed", why.as_str()),
                };
                // What a passed test printed is nobody's business.
                let output = if verdict == "failed" { test.output.as_str() } else { "" };
                json!({ "place": place, "title": test.title, "verdict": verdict, "why": why,
                    "seconds": test.took.as_secs_f64(), "output": output })
            }
        };
        format!("{value}\n")
    }

    pub(crate) fn parse(line: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(line).with_context(|| format!("no event: {line}"))?;
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let seconds = |key: &str| Duration::from_secs_f64(value[key].as_f64().unwrap_or_default());
        let place = text("place");
        if let Some(tests) = value["tests"].as_u64() {
            return Ok(Self::Begun { place, tests: tests as usize });
        }
        if value["done"].is_number() {
            return Ok(Self::Done { place, took: seconds("done") });
        }
        let verdict = match text("verdict").as_str() {
            "passed" => Verdict::Passed,
            "skipped" => Verdict::Skipped(text("why")),
            "failed" => Verdict::Failed(text("why")),
            _ => bail!("no event: {line}"),
        };
        let test = Ended { title: text("title"), verdict, took: seconds("seconds"), output: text("output") };
        Ok(Self::Ended { place, test })
    }
}
