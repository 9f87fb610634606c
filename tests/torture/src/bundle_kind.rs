//! The bundles that are tried.

use crate::isolation;
use ampoule_tests::Bundle;
use serde_json::{Value, json};
use std::path::Path;

/// A kind of bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum BundleKind {
    /// runc's default spec, with a seccomp filter and limits.
    Default,
    /// In a user namespace, with hooks, on a host without cgroups.
    Mapped,
    /// The same without either: its process needs nothing of the runtime's until it waits for start.
    Bare,
    /// An ordinary user with groups, at a terminal.
    Terminal,
}

impl BundleKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Default, Self::Mapped, Self::Bare, Self::Terminal];

    /// As the command line has it.
    pub fn word(self) -> &'static str {
        match self {
            BundleKind::Default => "default",
            BundleKind::Mapped => "mapped",
            BundleKind::Bare => "bare",
            BundleKind::Terminal => "terminal",
        }
    }

    /// Whether the host has cgroups for it. Without, nothing but the init's pid holds the container together.
    pub fn has_cgroup(self) -> bool {
        !matches!(self, BundleKind::Mapped | BundleKind::Bare)
    }

    /// Whether its process is given a terminal.
    pub fn has_terminal(self) -> bool {
        self == BundleKind::Terminal
    }

    /// A bundle of this kind.
    pub fn bundle(self) -> Bundle {
        let bundle = Bundle::sleeping();
        match self {
            BundleKind::Default => bundle.with(limit).with(filter),
            BundleKind::Mapped => bundle.with_user_namespace().with(unlimit),
            BundleKind::Bare => bundle.with(unlimit),
            BundleKind::Terminal => bundle.with(|c| {
                c["process"]["terminal"] = json!(true);
                c["process"]["user"] =
                    json!({ "uid": 1000, "gid": 1001, "additionalGids": [7, 1002], "umask": 0o27 });
            }),
        }
    }

    /// Has the bundle's program report what it is, and then sleep or end. Whatever is started there has the id in its command
    /// line, by which it is found if it is left.
    pub fn name(self, bundle: &mut Bundle, id: &str, sleeps: bool) {
        let questions = isolation::questions(sleeps, id).into_iter();
        bundle.config["process"]["args"] =
            json!(["/bin/probe".into()].into_iter().chain(questions).collect::<Vec<_>>());
        if self == BundleKind::Mapped {
            let hook = |program: &Path| json!([{ "path": program, "args": ["probe", "args", id] }]);
            let (outside, inside) = (hook(&bundle.rootfs().join("bin/probe")), hook("/bin/probe".as_ref()));
            bundle.config["hooks"] = json!({
                "createRuntime": outside, "createContainer": outside, "startContainer": inside,
                "poststart": outside, "poststop": outside,
            });
        }
    }
}

fn limit(config: &mut Value) {
    let resources = &mut config["linux"]["resources"];
    resources["pids"] = json!({ "limit": 100 });
    resources["memory"] = json!({ "limit": 1 << 28 });
    resources["cpu"] = json!({ "shares": 512 });
}

/// For a host without cgroups.
fn unlimit(config: &mut Value) {
    config["linux"].as_object_mut().expect("an object").remove("resources");
    config["mounts"].as_array_mut().expect("a list").retain(|mount| mount["type"] != "cgroup");
}

fn filter(config: &mut Value) {
    config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["swapon", "mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 }],
    });
}
