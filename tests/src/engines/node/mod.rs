//! A node of a Kubernetes cluster, without its kubelet: containerd with CRI and network plugins.

mod config;
mod leftovers;

use super::containerd::stop_daemon;
use super::{Sandbox, pack};
use crate::cri::{Cri, messages::*};
use crate::{Call, on_path, pause_image, shim_program, systemd, wait_for};
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};

/// The name of the runtime under test, as pods ask for it.
pub const RUNTIME_HANDLER: &str = "ampoule";

/// containerd with its CRI, real network plugins, and our pause in each pod. All that it has is removed on drop, and
/// it is a failure if something stays.
#[derive(Debug)]
pub struct Node {
    sandbox: Sandbox,
    daemon: Option<Call>,
    /// The mounts that were there before any pod.
    mounts: Vec<String>,
}

/// Whether this machine has what a node needs.
pub fn can_be_node() -> bool {
    let plugins = ["bridge", "host-local", "loopback", "portmap"];
    crate::is_root()
        && ["containerd", "ctr"].iter().all(|name| on_path(name).is_some())
        && plugins.iter().all(|name| Path::new(config::PLUGINS).join(name).exists())
}

/// Whether ports of the node's can lead to pods: that takes iptables.
pub fn can_map_ports() -> bool {
    config::has_ports()
}

impl Node {
    /// Starts one and loads the images: pause, and [`super::IMAGE`].
    pub fn start() -> Self {
        let sandbox = Sandbox::new();
        config::configure(&sandbox);
        let mut node = Self { sandbox, daemon: None, mounts: Vec::new() };
        node.resume();
        node.mounts = node.all_mounts();
        let archive = pack(node.sandbox.path());
        for (archive, name) in [(pause_image(), "ampoule/pause:0.1.0"), (archive, super::IMAGE)] {
            node.import(&archive, name);
        }
        node
    }

    /// Starts containerd, or starts it again.
    pub fn resume(&mut self) {
        let shims = shim_program().parent().expect("a directory").to_owned();
        let mut daemon = self.sandbox.command("containerd");
        daemon.args(["--log-level", "warn"]).arg("--config").arg(self.sandbox.file("containerd.toml"));
        daemon.env("PATH", format!("{}:{}", shims.display(), std::env::var("PATH").expect("a PATH")));
        self.daemon = Some(self.sandbox.start(daemon));
        wait_for("containerd and its network", || {
            let status = self.cri().status(StatusRequest::default()).ok().and_then(|answer| answer.status);
            // Newer ones have conditions of their own besides, such as that nothing of the file is deprecated.
            let conditions = status.map(|status| status.conditions).unwrap_or_default();
            let ready = |name: &&str| conditions.iter().any(|c| c.r#type == **name && c.status);
            ["RuntimeReady", "NetworkReady"].iter().all(ready)
        });
    }

    /// Kills containerd, and nothing else.
    pub fn kill(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.signal(nix::sys::signal::Signal::SIGKILL);
            daemon.finish();
        }
    }

    /// Loads an image from an archive.
    fn import(&self, archive: &Path, name: &str) {
        let mut ctr = self.sandbox.command("ctr");
        ctr.arg("--address").arg(self.sandbox.file("containerd.sock")).args(["--namespace", "k8s.io"]);
        ctr.args(["images", "import"]).arg(archive);
        self.sandbox.finish(ctr).ok();
        // CRI hears of it from containerd.
        let spec = ImageSpec { image: name.to_owned(), ..Default::default() };
        let request = ImageStatusRequest { image: Some(spec), verbose: false };
        wait_for("the image", || self.cri().image_status(request.clone()).is_ok_and(|a| a.image.is_some()));
    }

    /// Its CRI.
    pub fn cri(&self) -> Cri {
        Cri::at(self.sandbox.file("containerd.sock"))
    }

    /// Where it lives.
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// A directory for a pod's logs.
    pub fn logs(&self, pod: &str) -> PathBuf {
        self.sandbox.file("logs").join(pod)
    }

    /// The cgroup of its pods, as the kubelet would tell it: a path, also when it is a slice of systemd's.
    pub fn cgroup_parent(&self) -> String {
        self.sandbox.cgroup_parent().unwrap_or_else(|| format!("/{}", self.slice()))
    }

    /// systemd takes each dash for one level.
    fn slice(&self) -> String {
        format!("{}.slice", self.sandbox.name().replace('-', "_"))
    }

    /// Connects from within its network.
    pub fn connect(&self, address: IpAddr, port: u16) -> std::io::Result<TcpStream> {
        let network = File::open(self.proc("ns/net"))?;
        // A thread has a network namespace of its own, and a socket that of the thread that made it.
        let connect = move || {
            setns(network, CloneFlags::CLONE_NEWNET)?;
            TcpStream::connect_timeout(&SocketAddr::new(address, port), crate::patience())
        };
        std::thread::spawn(connect).join().expect("a thread")
    }

    /// A file of containerd's own in /proc; it is in the sandbox's namespaces.
    fn proc(&self, file: &str) -> PathBuf {
        let daemon = self.daemon.as_ref().expect("containerd runs");
        format!("/proc/{}/{file}", daemon.pid()).into()
    }

    fn remove_pods(&self) {
        let pods = self.cri().list_pod_sandbox(ListPodSandboxRequest::default());
        for pod in pods.map(|answer| answer.items).unwrap_or_default() {
            let _ = self.cri().stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: pod.id.clone() });
            let _ = self.cri().remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: pod.id });
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.daemon.is_some() {
            self.remove_pods();
        }
        if systemd::runs_on_v2() {
            // As the kubelet does once a pod has gone.
            let _ = systemd::manager("systemctl").args(["stop", &self.slice()]).status();
        }
        if let Some(daemon) = self.daemon.take() {
            stop_daemon(daemon);
        }
        self.sandbox.close(&[self.slice()]);
    }
}
