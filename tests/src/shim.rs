//! The shim under test, called as containerd calls it: `start`, then the task service over ttrpc; its events are kept.

use crate::{Bundle, Call, EventServer, Runtime, leftovers, patience, scratch, shim_program};
use containerd_shim_protos::api::*;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::shim::oci::Options;
use containerd_shim_protos::ttrpc::{self, context};
use containerd_shim_protos::{Client, TaskClient};
use nix::sys::signal::Signal;
use serde_json::json;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A shim that is ended on drop, after which nothing of it or of its containers may be left.
pub struct Shim {
    /// The id that it was started for, and the name of everything that is made here.
    pub id: String,
    /// Its calls.
    pub tasks: TaskClient,
    /// What it publishes.
    pub events: EventServer,
    /// Where it listens.
    pub socket: PathBuf,
    /// Its pid.
    pub pid: i32,
    bundle: Bundle,
    options: Options,
}

/// A call's time limit.
pub fn call_timeout() -> context::Context {
    context::with_duration(patience())
}

impl Shim {
    /// Starts a shim for a container of this bundle, as containerd would.
    pub fn start(bundle: Bundle) -> Self {
        Self::start_with(bundle, Options::new())
    }

    /// With options for the runtime. `RUNTIME` is its `BinaryName`.
    pub fn start_with(bundle: Bundle, mut options: Options) -> Self {
        let id = scratch::unique_name();
        let systemd = Runtime::get().flags().contains(&"--systemd-cgroup");
        let cgroup = if systemd { format!(":at:{id}") } else { format!("/{id}") };
        let bundle = bundle.with(|c| c["linux"]["cgroupsPath"] = json!(cgroup));
        options.binary_name = match Runtime::get().program() {
            program if options.binary_name.is_empty() => program.to_str().expect("a UTF-8 path").to_owned(),
            _ => options.binary_name,
        };
        options.root = bundle.beside("state").to_str().expect("a UTF-8 path").to_owned();
        options.systemd_cgroup = systemd;
        let events = EventServer::start(bundle.beside("events.sock"));
        bundle.write();
        let address = start(&id, &bundle, &options).unwrap_or_else(|e| panic!("start the shim: {e}"));
        let socket = PathBuf::from(address.strip_prefix("unix://").expect("a unix socket"));
        let tasks = TaskClient::new(Client::connect(&address).expect("connect to the shim"));
        let pid = tasks.connect(call_timeout(), &ConnectRequest::new()).expect("Connect").shim_pid as i32;
        Self { id, tasks, events, socket, pid, bundle, options }
    }

    /// One more connection.
    pub fn connect(&self) -> TaskClient {
        let address = format!("unix://{}", self.socket.display());
        TaskClient::new(Client::connect(&address).expect("connect to the shim"))
    }

    /// Starts a shim for another container; its address.
    pub fn start_another(&self, id: &str, bundle: &Bundle) -> Result<String, String> {
        bundle.write();
        start_as(&self.bundle.beside("events.sock"), id, bundle, &self.options)
    }

    /// The bundle.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// What `Create` is asked.
    pub fn create_request(&self) -> CreateTaskRequest {
        self.create_request_for(&self.id, &self.bundle)
    }

    /// The same for another container.
    pub fn create_request_for(&self, id: &str, bundle: &Bundle) -> CreateTaskRequest {
        let options = Any {
            type_url: "containerd.runc.v1.Options".to_owned(),
            value: self.options.write_to_bytes().expect("encode the options"),
            ..Default::default()
        };
        CreateTaskRequest {
            id: id.to_owned(),
            bundle: bundle.path().to_str().expect("a UTF-8 path").to_owned(),
            options: MessageField::some(options),
            ..Default::default()
        }
    }

    /// `Create`, then `Start`; the init's pid.
    #[track_caller]
    pub fn launch(&self) -> i32 {
        self.launch_with(self.create_request())
    }

    /// The same for any request.
    #[track_caller]
    pub fn launch_with(&self, request: CreateTaskRequest) -> i32 {
        let pid = self.tasks.create(call_timeout(), &request).expect("Create").pid;
        self.start_process(&request.id, "");
        pid as i32
    }

    /// `Start`.
    #[track_caller]
    pub fn start_process(&self, id: &str, exec_id: &str) -> u32 {
        let request = StartRequest { id: id.to_owned(), exec_id: exec_id.to_owned(), ..Default::default() };
        self.tasks.start(call_timeout(), &request).expect("Start").pid
    }

    /// What `Exec` is asked: questions for the probe.
    pub fn exec_request(&self, exec_id: &str, questions: &[&str]) -> ExecProcessRequest {
        let mut process = self.bundle.config["process"].clone();
        let args: Vec<&str> = ["/bin/probe"].iter().chain(questions).copied().collect();
        process["args"] = json!(args);
        let spec = Any { value: process.to_string().into(), ..Default::default() };
        ExecProcessRequest {
            id: self.id.clone(),
            exec_id: exec_id.to_owned(),
            spec: MessageField::some(spec),
            ..Default::default()
        }
    }

    /// `Exec`, then `Start`; the pid.
    #[track_caller]
    pub fn exec(&self, request: &ExecProcessRequest) -> u32 {
        self.tasks.exec(call_timeout(), request).expect("Exec");
        self.start_process(&request.id, &request.exec_id)
    }

    /// `Wait`; the exit status.
    #[track_caller]
    pub fn wait(&self, exec_id: &str) -> u32 {
        let request = WaitRequest { id: self.id.clone(), exec_id: exec_id.to_owned(), ..Default::default() };
        self.tasks.wait(call_timeout(), &request).expect("Wait").exit_status
    }

    /// `Kill`.
    pub fn kill(&self, exec_id: &str, signal: i32) -> ttrpc::Result<Empty> {
        let (id, exec_id) = (self.id.clone(), exec_id.to_owned());
        self.tasks
            .kill(call_timeout(), &KillRequest { id, exec_id, signal: signal as u32, ..Default::default() })
    }

    /// `Delete`; the exit status.
    pub fn delete(&self, exec_id: &str) -> ttrpc::Result<u32> {
        let request =
            DeleteRequest { id: self.id.clone(), exec_id: exec_id.to_owned(), ..Default::default() };
        self.tasks.delete(call_timeout(), &request).map(|answer| answer.exit_status)
    }

    /// `State`.
    pub fn state(&self, exec_id: &str) -> ttrpc::Result<StateResponse> {
        let request = StateRequest { id: self.id.clone(), exec_id: exec_id.to_owned(), ..Default::default() };
        self.tasks.state(call_timeout(), &request)
    }

    /// A fifo in the bundle, for a stream.
    pub fn fifo(&self, name: &str) -> String {
        let path = self.bundle.beside(name);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).expect("make a fifo");
        path.to_str().expect("a UTF-8 path").to_owned()
    }

    /// Calls the program's `delete`, as containerd does when the shim has died; what it says.
    pub fn delete_verb(&self) -> crate::Outcome {
        let mut command = Command::new(shim_program());
        command
            .args(["-namespace", "test", "-id", &self.id, "-bundle"])
            .arg(self.bundle.path())
            .arg("delete");
        command.current_dir(self.bundle.path()).stdin(Stdio::null());
        Call::start(command, self.bundle.beside("delete")).finish()
    }

    /// A figure of the shim's memory, in kB: `Pss`, `Private_Dirty`.
    pub fn memory(&self, name: &str) -> u64 {
        // Of a program that was just built all pages are dirty.
        fs::File::open(shim_program()).and_then(|file| file.sync_all()).expect("write back the program");
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid)).expect("read smaps_rollup");
        let line = text.lines().find(|line| line.starts_with(&format!("{name}:"))).expect("the figure");
        line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
    }

    /// Whether its process is there.
    pub fn is_alive(&self) -> bool {
        Path::new(&format!("/proc/{}", self.pid)).exists()
    }

    /// Everything that the host still has of it.
    pub fn leftovers(&self) -> Vec<String> {
        let bundle = self.bundle.path();
        let mut left = leftovers::processes(&self.id);
        left.extend(leftovers::cgroups(&self.id));
        left.extend(leftovers::mounts(bundle));
        left.extend(leftovers::entries("state", &bundle.join("state/test")));
        left.extend(self.socket.exists().then(|| format!("socket {}", self.socket.display())));
        left
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        let quick = || context::with_timeout(5_000_000_000);
        let _ = self.kill("", Signal::SIGKILL as i32);
        let _ = self.tasks.wait(quick(), &WaitRequest { id: self.id.clone(), ..Default::default() });
        let _ = self.delete("");
        let _ = self.tasks.shutdown(quick(), &ShutdownRequest { id: self.id.clone(), ..Default::default() });
        let end = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while !self.leftovers().is_empty() && std::time::Instant::now() < end {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let left = self.leftovers();
        if !left.is_empty() {
            self.delete_verb();
            leftovers::kill_processes(&self.id);
            let _ = fs::remove_file(&self.socket);
            leftovers::remove_cgroups(&self.id);
        }
        self.events.stop();
        assert!(left.is_empty() || std::thread::panicking(), "the shim left {left:#?}");
    }
}

fn start(id: &str, bundle: &Bundle, options: &Options) -> Result<String, String> {
    start_as(&bundle.beside("events.sock"), id, bundle, options)
}

/// `start`, in the protocol of containerd 1.6 to 2.2; the address.
fn start_as(events: &Path, id: &str, bundle: &Bundle, options: &Options) -> Result<String, String> {
    let options = Any {
        type_url: "containerd.runc.v1.Options".to_owned(),
        value: options.write_to_bytes().expect("encode the options"),
        ..Default::default()
    };
    let mut command = Command::new(shim_program());
    command.args(["-namespace", "test", "-id", id, "-address"]).arg(events.with_extension("grpc"));
    command.args(["-publish-binary", "/bin/false", "start"]).current_dir(bundle.path());
    command.env("TTRPC_ADDRESS", events).env_remove("MAX_SHIM_VERSION");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| e.to_string())?;
    let bytes = options.write_to_bytes().expect("encode the options");
    child.stdin.take().expect("a pipe").write_all(&bytes).map_err(|e| e.to_string())?;
    let output = child.wait_with_output().map_err(|e| e.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
