//! `ampoule check`: what this host offers, what it lacks, and how to turn that on.
//!
//! What can be asked cheaply is asked for real: a version number says little about a distribution's kernel, and
//! nothing about a seccomp filter around us.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use linux::absent::{absent, exists};
use serde::Serialize;

use super::Context;

mod cgroups;
mod kernel;
mod users;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    /// There, but not all of it, or not for us.
    Limited,
    Missing,
}

/// One row of the answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Finding {
    name: &'static str,
    state: State,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    turn_on: Option<String>,
}

impl Finding {
    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Finding { name, state: State::Ok, detail: detail.into(), turn_on: None }
    }

    fn limited(name: &'static str, detail: impl Into<String>, turn_on: impl Into<String>) -> Self {
        Finding { name, state: State::Limited, detail: detail.into(), turn_on: Some(turn_on.into()) }
    }

    fn missing(name: &'static str, detail: impl Into<String>, turn_on: impl Into<String>) -> Self {
        Finding { name, state: State::Missing, detail: detail.into(), turn_on: Some(turn_on.into()) }
    }

    /// A yes or no: `there` says what it is good for, `lost` what goes without it.
    fn either(yes: bool, name: &'static str, there: &str, lost: &str, turn_on: &str) -> Self {
        if yes { Finding::ok(name, there) } else { Finding::missing(name, lost, turn_on) }
    }
}

#[derive(Debug, Serialize)]
struct Section {
    about: &'static str,
    findings: Vec<Finding>,
}

#[derive(Debug, Serialize)]
struct Report {
    version: &'static str,
    kernel: String,
    architecture: &'static str,
    sections: Vec<Section>,
}

#[derive(clap::Args)]
pub(super) struct Check {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(_: &Context, args: Check) -> Result<ExitCode> {
    let facts = crate::facts::probe::gather(None)?;
    let kernel = text("/proc/sys/kernel/osrelease")?;
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        architecture: std::env::consts::ARCH,
        sections: vec![
            Section { about: "cgroups", findings: cgroups::findings(&facts.host_cgroups())? },
            Section { about: "kernel", findings: kernel::findings()? },
            Section { about: "users and confinement", findings: users::findings()? },
        ],
        kernel,
    };
    let text = if args.json { serde_json::to_string_pretty(&report)? + "\n" } else { report.to_text() };
    super::print(&text)
}

impl Report {
    fn to_text(&self) -> String {
        let mut out = format!("ampoule {} on Linux {}, {}\n", self.version, self.kernel, self.architecture);
        let all = || self.sections.iter().flat_map(|s| &s.findings);
        let width = all().map(|f| f.name.len()).max().unwrap_or_default();
        for section in &self.sections {
            out.push_str(&format!("\n{}\n", section.about));
            for f in &section.findings {
                let mark = match f.state {
                    State::Ok => "ok     ",
                    State::Limited => "limited",
                    State::Missing => "missing",
                };
                out.push_str(&format!("  {mark}  {:width$}  {}\n", f.name, f.detail));
                if let Some(how) = &f.turn_on {
                    out.push_str(&format!("           {:width$}  -> {how}\n", ""));
                }
            }
        }
        let count = |state| all().filter(|f| f.state == state).count();
        let (ok, limited, missing) = (count(State::Ok), count(State::Limited), count(State::Missing));
        out.push_str(&format!("\n{ok} ok, {limited} limited, {missing} missing\n"));
        out
    }
}

/// A kernel file's text without the end of its line; empty when there is none.
fn text(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    let text = absent(fs::read_to_string(path)).with_context(|| format!("read {}", path.display()))?;
    Ok(text.unwrap_or_default().trim_end().to_owned())
}

/// Whether a path of the kernel's or the system's is there.
fn is_there(path: impl AsRef<Path>) -> Result<bool> {
    let path = path.as_ref();
    exists(path).with_context(|| format!("stat {}", path.display()))
}

/// Whether this kernel has a kind of namespaces, by its name in /proc/self/ns.
pub(super) fn has_namespace(name: &str) -> Result<bool> {
    let path = format!("/proc/self/ns/{name}");
    Ok(absent(fs::symlink_metadata(&path)).with_context(|| format!("stat {path}"))?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_lines_up_and_counts() {
        let findings = vec![Finding::ok("a", "there"), Finding::missing("long name", "not there", "do this")];
        let report = Report {
            version: "1",
            kernel: "6.1".into(),
            architecture: "x86_64",
            sections: vec![Section { about: "things", findings }],
        };
        assert_eq!(
            report.to_text(),
            "ampoule 1 on Linux 6.1, x86_64\n\nthings\n  ok       a          there\n  missing  long name  not there\n\
            \x20                     -> do this\n\n1 ok, 0 limited, 1 missing\n"
        );
    }

    #[test]
    fn whatever_is_lacking_says_how_to_turn_it_on() {
        let layouts = [
            ::cgroup::layout::Layout::default(),
            ::cgroup::layout::Layout::pure_v1(),
            ::cgroup::layout::Layout::pure_v2(),
            ::cgroup::layout::Layout::hybrid(),
        ];
        let cgroups = layouts.iter().map(cgroups::findings);
        for f in cgroups.chain([kernel::findings(), users::findings()]).flat_map(Result::unwrap) {
            assert_eq!(f.turn_on.is_some(), f.state != State::Ok, "{f:?}");
            assert!(!f.detail.is_empty(), "{f:?}");
        }
    }
}
