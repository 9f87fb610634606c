//! containerd's side of the events that a shim publishes: a server that keeps them in the order in which they came.

use crate::wait_for;
use containerd_shim_protos::api::{Empty, ForwardRequest};
use containerd_shim_protos::events::task::{TaskDelete, TaskExecAdded, TaskExecStarted, TaskExit, TaskStart};
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::ttrpc::{self, Server};
use containerd_shim_protos::{Events, create_events};
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// An event, without its details.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What happened: `create`, `exit`; containerd's topic without `/tasks/`.
    pub topic: String,
    /// To which process: `ID` of a container, or `ID/EXEC`.
    pub process: String,
    /// The exit status of `exit` and `delete`, the pid of `exec-started`; otherwise 0.
    pub number: u32,
}

/// Listens where a shim sends its events.
pub struct EventServer {
    server: Option<Server>,
    path: PathBuf,
    received: Arc<Mutex<Vec<Event>>>,
}

/// The ttrpc service: it appends to the server's list.
struct Service(Arc<Mutex<Vec<Event>>>);

impl Events for Service {
    fn forward(&self, _: &ttrpc::TtrpcContext, request: ForwardRequest) -> ttrpc::Result<Empty> {
        let envelope = request.envelope.unwrap_or_default();
        let topic = envelope.topic.trim_start_matches("/tasks/").to_owned();
        let (process, number) = details(&topic, &envelope.event.value);
        self.0.lock().expect("the list").push(Event { topic, process, number });
        Ok(Empty::new())
    }
}

/// Whose event it is, and its number.
fn details(topic: &str, bytes: &[u8]) -> (String, u32) {
    match topic {
        "exit" => {
            let exit = TaskExit::parse_from_bytes(bytes).expect("an exit");
            // An init's event has its container's id for its own.
            let process = match exit.id == exit.container_id {
                true => exit.container_id,
                false => format!("{}/{}", exit.container_id, exit.id),
            };
            (process, exit.exit_status)
        }
        "exec-added" => {
            let added = TaskExecAdded::parse_from_bytes(bytes).expect("an exec-added");
            (format!("{}/{}", added.container_id, added.exec_id), 0)
        }
        "exec-started" => {
            let started = TaskExecStarted::parse_from_bytes(bytes).expect("an exec-started");
            (format!("{}/{}", started.container_id, started.exec_id), started.pid)
        }
        "delete" => {
            let delete = TaskDelete::parse_from_bytes(bytes).expect("a delete");
            (delete.container_id, delete.exit_status)
        }
        // The container's id is the first field of all the others.
        _ => (TaskStart::parse_from_bytes(bytes).map(|start| start.container_id).unwrap_or_default(), 0),
    }
}

impl EventServer {
    /// A server that listens at this path.
    pub(crate) fn start(path: PathBuf) -> Self {
        let mut server = Self { server: None, path, received: Arc::default() };
        server.listen();
        server
    }

    /// Listens again: containerd is back.
    pub fn listen(&mut self) {
        let _ = fs::remove_file(&self.path);
        let service = create_events(Arc::new(Service(self.received.clone())));
        let address = format!("unix://{}", self.path.display());
        let mut server = Server::new().bind(&address).expect("listen for events").register_service(service);
        server.start().expect("listen for events");
        self.server = Some(server);
    }

    /// Listens no more: containerd is away.
    pub fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.shutdown();
        }
    }

    /// All events so far.
    pub fn received(&self) -> Vec<Event> {
        self.received.lock().expect("the list").clone()
    }

    /// The topics of one process's events: `ID`, or `ID/EXEC`.
    pub fn topics(&self, process: &str) -> Vec<String> {
        let all = self.received().into_iter();
        all.filter(|event| event.process == process).map(|event| event.topic).collect()
    }

    /// Waits for an event of a process, and returns its number.
    #[track_caller]
    pub fn wait(&self, topic: &str, process: &str) -> u32 {
        let is_wanted = |event: &Event| event.topic == topic && event.process == process;
        let find = || self.received().into_iter().find(is_wanted);
        wait_for(&format!("{topic} of {process} in {:?}", self.received()), || find().is_some());
        find().expect("just seen").number
    }
}
