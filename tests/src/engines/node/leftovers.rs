//! What a node still has of its pods.

use super::Node;
use crate::{Mount, cgroups_named, command_line, patience, pids_mentioning};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

impl Node {
    /// Waits until nothing of any pod is left; panics with what is.
    #[track_caller]
    pub fn wait_until_empty(&self) {
        let end = Instant::now() + patience();
        loop {
            let left = self.leftovers();
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < end, "left behind: {left:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Processes, cgroups, mounts, network namespaces and devices, addresses, sockets, states and directories of pods.
    fn leftovers(&self) -> Vec<String> {
        let told = |what: &'static str| move |it: String| format!("{what} {it}");
        let mut left: Vec<String> = self.processes().into_iter().map(told("process")).collect();
        left.extend(self.cgroups().into_iter().map(told("cgroup")));
        let mounts = self.all_mounts().into_iter().filter(|target| !self.mounts.contains(target));
        left.extend(mounts.map(told("mount")));
        left.extend(self.devices().into_iter().map(told("device")));
        let addresses = self.files(&self.sandbox.file("addresses/pods"));
        let is_address = |path: &String| path.rsplit('/').next().is_some_and(|name| name.starts_with("10."));
        left.extend(addresses.into_iter().filter(is_address).map(told("address")));
        let run = self.proc("root/run");
        for (what, dir) in [
            ("socket", run.join("containerd/s")),
            ("network", run.join("netns")),
            ("state", run.join("containerd/ampoule/k8s.io")),
            ("bundle", self.sandbox.file("containerd.state/io.containerd.runtime.v2.task/k8s.io")),
            ("pod", self.sandbox.file("containerd.state/io.containerd.grpc.v1.cri/sandboxes")),
            ("container", self.sandbox.file("containerd.state/io.containerd.grpc.v1.cri/containers")),
        ] {
            left.extend(self.files(&dir).into_iter().map(told(what)));
        }
        left
    }

    /// The shims' pids: all, or those whose command line mentions a pod's id.
    pub fn shims(&self, of: &str) -> Vec<i32> {
        let is_shim = |line: String| line.contains("containerd-shim") && line.contains(of);
        let all = pids_mentioning(self.sandbox.name()).into_iter();
        all.filter(|pid| is_shim(command_line(*pid))).collect()
    }

    /// Shims, and what runs in the pods' cgroups.
    fn processes(&self) -> Vec<String> {
        let slice = self.slice();
        let inside = pids_mentioning(&slice).into_iter().chain(pids_mentioning(self.sandbox.name()));
        let pids: BTreeSet<i32> =
            self.shims("").into_iter().chain(inside.filter(|pid| self.is_pods(*pid))).collect();
        pids.into_iter().map(|pid| format!("{pid} {}", command_line(pid))).collect()
    }

    fn is_pods(&self, pid: i32) -> bool {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        groups.contains(self.sandbox.name()) || groups.contains(&self.slice())
    }

    /// Those below the pods' own, which is the kubelet's to remove.
    fn cgroups(&self) -> Vec<String> {
        let own = self.cgroup_parent();
        let own = own.trim_start_matches('/');
        let all = cgroups_named(own).into_iter().filter(|dir| !dir.ends_with(own));
        all.map(|dir| dir.display().to_string()).collect()
    }

    /// The targets of all mounts that containerd sees.
    pub(super) fn all_mounts(&self) -> Vec<String> {
        let text = fs::read_to_string(self.proc("mountinfo")).expect("read containerd's mounts");
        Mount::parse(&text).into_iter().map(|mount| mount.target).collect()
    }

    /// Network devices of the node's but for its own and the pods' bridge.
    fn devices(&self) -> Vec<String> {
        let text = fs::read_to_string(self.proc("net/dev")).expect("read the devices");
        let names =
            text.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim().to_owned());
        names.filter(|name| name.starts_with("veth")).collect()
    }

    fn files(&self, dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.path().display().to_string()).collect()
    }
}
