//! A pod and its containers, made as the kubelet makes them.

use super::calls::RpcResult;
use super::{Cri, messages::*};
use crate::engines::{IMAGE, Node, RUNTIME_HANDLER};
use crate::wait_for;
use serde_json::Value;
use std::path::PathBuf;

/// A pod that runs. The node removes it, if nobody does before.
#[derive(Debug)]
pub struct Pod {
    cri: Cri,
    /// Its id, which is also its first container's: pause's.
    pub id: String,
    /// What it was made of.
    pub config: PodSandboxConfig,
}

/// What a pod of that name is made of: the kubelet's defaults, with a process namespace for each container.
pub fn pod_config(node: &Node, name: &str) -> PodSandboxConfig {
    let metadata = PodSandboxMetadata {
        name: name.to_owned(),
        uid: format!("{name}-{}", node.sandbox().name()),
        namespace: "default".to_owned(),
        attempt: 0,
    };
    let context = LinuxSandboxSecurityContext {
        namespace_options: Some(NamespaceOption {
            pid: NamespaceMode::Container.into(),
            ..Default::default()
        }),
        seccomp: Some(SecurityProfile::default()),
        ..Default::default()
    };
    PodSandboxConfig {
        metadata: Some(metadata),
        hostname: name.to_owned(),
        log_directory: node.logs(name).to_str().expect("a UTF-8 path").to_owned(),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: node.cgroup_parent(),
            security_context: Some(context),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// A container of the image that runs a command; its process namespace is its own.
pub fn container_config(name: &str, command: &[&str]) -> ContainerConfig {
    let context = LinuxContainerSecurityContext {
        namespace_options: Some(NamespaceOption {
            pid: NamespaceMode::Container.into(),
            ..Default::default()
        }),
        seccomp: Some(SecurityProfile::default()),
        ..Default::default()
    };
    ContainerConfig {
        metadata: Some(ContainerMetadata { name: name.to_owned(), attempt: 0 }),
        image: Some(ImageSpec { image: IMAGE.to_owned(), ..Default::default() }),
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        log_path: format!("{name}.log"),
        linux: Some(LinuxContainerConfig {
            security_context: Some(context),
            resources: Some(LinuxContainerResources::default()),
        }),
        ..Default::default()
    }
}

impl Pod {
    /// Makes one of that name.
    #[track_caller]
    pub fn run(node: &Node, name: &str) -> Self {
        Self::of(node, pod_config(node, name))
    }

    /// Makes any.
    #[track_caller]
    pub fn of(node: &Node, config: PodSandboxConfig) -> Self {
        std::fs::create_dir_all(&config.log_directory).expect("make a directory for logs");
        let request = RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: RUNTIME_HANDLER.to_owned(),
        };
        let answer = node.cri().run_pod_sandbox(request).unwrap_or_else(|e| panic!("RunPodSandbox: {e}"));
        Self { cri: node.cri(), id: answer.pod_sandbox_id, config }
    }

    /// Makes a container; its id.
    ///
    /// # Errors
    /// containerd's own.
    pub fn create(&self, config: ContainerConfig) -> RpcResult<String> {
        let request = CreateContainerRequest {
            pod_sandbox_id: self.id.clone(),
            config: Some(config),
            sandbox_config: Some(self.config.clone()),
        };
        self.cri.create_container(request).map(|answer| answer.container_id)
    }

    /// Makes a container and starts it; its id.
    #[track_caller]
    pub fn start(&self, config: ContainerConfig) -> String {
        let id = self.create(config).unwrap_or_else(|e| panic!("CreateContainer: {e}"));
        let started = self.cri.start_container(StartContainerRequest { container_id: id.clone() });
        started.unwrap_or_else(|e| panic!("StartContainer: {e}"));
        id
    }

    /// Its state and addresses.
    #[track_caller]
    pub fn status(&self) -> PodSandboxStatus {
        let request = PodSandboxStatusRequest { pod_sandbox_id: self.id.clone(), verbose: false };
        let answer = self.cri.pod_sandbox_status(request).unwrap_or_else(|e| panic!("PodSandboxStatus: {e}"));
        answer.status.expect("a status")
    }

    /// Its address.
    #[track_caller]
    pub fn address(&self) -> std::net::IpAddr {
        self.status().network.expect("a network").ip.parse().expect("an address")
    }

    /// pause's pid.
    #[track_caller]
    pub fn pid(&self) -> i32 {
        let request = PodSandboxStatusRequest { pod_sandbox_id: self.id.clone(), verbose: true };
        pid(&self.cri.pod_sandbox_status(request).expect("PodSandboxStatus").info["info"])
    }

    /// The pid of a container's first process.
    #[track_caller]
    pub fn pid_of(&self, container: &str) -> i32 {
        let request = ContainerStatusRequest { container_id: container.to_owned(), verbose: true };
        pid(&self.cri.container_status(request).expect("ContainerStatus").info["info"])
    }

    /// A container's state.
    #[track_caller]
    pub fn container(&self, id: &str) -> ContainerStatus {
        let request = ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        let answer = self.cri.container_status(request).unwrap_or_else(|e| panic!("ContainerStatus: {e}"));
        answer.status.expect("a status")
    }

    /// Waits for a container's end; its exit code.
    #[track_caller]
    pub fn wait(&self, id: &str) -> i32 {
        wait_for("the container's end", || self.container(id).state() == ContainerState::ContainerExited);
        self.container(id).exit_code
    }

    /// A probe: its exit code, and what it wrote to stdout and stderr.
    #[track_caller]
    pub fn exec(&self, id: &str, command: &[&str]) -> (i32, String, String) {
        let answer = self.exec_within(id, command, 0).unwrap_or_else(|e| panic!("ExecSync: {e}"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (answer.exit_code, text(&answer.stdout), text(&answer.stderr))
    }

    /// A probe that may take some seconds; 0 are any.
    ///
    /// # Errors
    /// containerd's own, among them one for a probe that took longer.
    pub fn exec_within(&self, id: &str, command: &[&str], seconds: i64) -> RpcResult<ExecSyncResponse> {
        let cmd = command.iter().map(|word| (*word).to_owned()).collect();
        self.cri.exec_sync(ExecSyncRequest { container_id: id.to_owned(), cmd, timeout: seconds })
    }

    /// Asks a container to end, and ends it after some seconds.
    #[track_caller]
    pub fn stop_container(&self, id: &str, seconds: i64) {
        let request = StopContainerRequest { container_id: id.to_owned(), timeout: seconds };
        self.cri.stop_container(request).unwrap_or_else(|e| panic!("StopContainer: {e}"));
    }

    /// Removes a container.
    #[track_caller]
    pub fn remove_container(&self, id: &str) {
        let request = RemoveContainerRequest { container_id: id.to_owned() };
        self.cri.remove_container(request).unwrap_or_else(|e| panic!("RemoveContainer: {e}"));
    }

    /// Ends it.
    #[track_caller]
    pub fn stop(&self) {
        let request = StopPodSandboxRequest { pod_sandbox_id: self.id.clone() };
        self.cri.stop_pod_sandbox(request).unwrap_or_else(|e| panic!("StopPodSandbox: {e}"));
    }

    /// Ends and removes it.
    #[track_caller]
    pub fn remove(&self) {
        self.stop();
        let request = RemovePodSandboxRequest { pod_sandbox_id: self.id.clone() };
        self.cri.remove_pod_sandbox(request).unwrap_or_else(|e| panic!("RemovePodSandbox: {e}"));
    }

    /// The log of a container of that name.
    pub fn log(&self, name: &str) -> PathBuf {
        PathBuf::from(&self.config.log_directory).join(format!("{name}.log"))
    }
}

/// The pid among what containerd tells of something in its own words.
#[track_caller]
fn pid(info: &str) -> i32 {
    let info: Value = serde_json::from_str(info).expect("JSON");
    info["pid"].as_i64().filter(|pid| *pid > 0).unwrap_or_else(|| panic!("no pid in {info}")) as i32
}
