//! What is known of a container before it exists and never changes afterwards: `state.json`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::plan::step::Hook;
use crate::plan::systemd::Scope;

/// The spec version that this runtime follows and reports.
pub const OCI_VERSION: &str = "1.3.0";

/// The immutable facts. Written before the first side effect, so that whatever a killed runtime leaves behind can
/// be found and removed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the state document's own names")]
pub struct Record {
    pub oci_version: String,
    pub id: String,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    /// RFC 3339.
    pub created: String,
    /// The user that made it.
    pub owner: u32,
    pub annotations: BTreeMap<String, String>,
    /// Its cgroup in every hierarchy.
    pub cgroups: Vec<PathBuf>,
    /// The one of them that is in the v2 hierarchy.
    pub cgroup2: Option<PathBuf>,
    /// Its own groups of the resctrl filesystem, each before the one that it is in.
    #[serde(default)]
    pub rdt_groups: Vec<PathBuf>,
    /// Whether its processes have a session keyring of the container's.
    pub keyring: bool,
    /// The unit that systemd keeps for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// What its stdin, stdout and stderr were given as, by the texts of their links (proc_pid_fd(5)): for a restore to
    /// know which of its processes' descriptors they are.
    #[serde(default)]
    pub streams: Vec<String>,
    /// Whether killing the init ends every process of the container.
    pub own_pid_namespace: bool,
    pub poststart: Vec<Hook>,
    pub poststop: Vec<Hook>,
}

/// The state document (runtime.md#state), with what runc adds.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct State<'a> {
    oci_version: &'a str,
    id: &'a str,
    pid: i32,
    status: &'a str,
    bundle: &'a PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    rootfs: Option<&'a PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<&'a str>,
}

impl Record {
    /// What hooks get on stdin: the spec's document and nothing more. `pid` 0: there is none.
    pub fn hook_state(&self, status: &str, pid: i32) -> Vec<u8> {
        let state = State {
            oci_version: &self.oci_version,
            id: &self.id,
            pid,
            status,
            bundle: &self.bundle,
            rootfs: None,
            created: None,
            annotations: &self.annotations,
            owner: None,
        };
        serde_json::to_vec(&state).expect("it was saved as JSON before")
    }

    /// What a seccomp agent gets along with the listener of `pid` (config-linux.md#containerprocessstate). `init` is the
    /// container's, when that is another process.
    pub fn container_process_state(&self, metadata: &str, pid: i32, init: Option<i32>) -> String {
        let state = match init {
            Some(init) => self.hook_state("running", init),
            None => self.hook_state("creating", pid),
        };
        let mut message = serde_json::json!({
            "ociVersion": self.oci_version,
            "fds": ["seccompFd"],
            "pid": pid,
            "state": serde_json::from_slice::<serde_json::Value>(&state).expect("it was written just now"),
        });
        if !metadata.is_empty() {
            message["metadata"] = metadata.into();
        }
        message.to_string()
    }

    /// What `state` prints, and `list` but for the owner's name, which runc gives only there.
    pub fn state(&self, status: &str, pid: i32) -> serde_json::Value {
        let state = State {
            oci_version: &self.oci_version,
            id: &self.id,
            pid,
            status,
            bundle: &self.bundle,
            rootfs: Some(&self.rootfs),
            created: Some(&self.created),
            annotations: &self.annotations,
            owner: Some(""),
        };
        serde_json::to_value(state).expect("it was saved as JSON before")
    }
}

/// The user's name, as `list` shows it. Read from the file rather than asked of NSS, which a static program can't.
pub fn owner_name(uid: u32) -> String {
    // A name is only for show, and the number is one, too.
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let entry = users.lines().map(|l| l.split(':')).find_map(|mut fields| {
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    entry.unwrap_or_else(|| format!("#{uid}"))
}
