//! What containerd tells its shim. The shim is a program, which can't be depended on: its own files are included.

#![allow(dead_code, missing_docs, reason = "files of a program, of which only some is called here")]

#[path = "../../../shim/src/bootstrap.rs"]
pub mod bootstrap;
#[path = "../../../shim/src/flags.rs"]
pub mod flags;
#[path = "../../../shim/src/rootfs/options.rs"]
mod mount;
#[path = "../../../shim/src/runtime/options.rs"]
mod options;
#[path = "../../../shim/src/stdio/uri.rs"]
mod uri;

use bootstrap::StartParams;
use containerd_shim_protos::api::*;
use containerd_shim_protos::bootstrap_api::{BootstrapParams, BootstrapResult};
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::shim::oci::CheckpointOptions;
use containerd_shim_protos::ttrpc::proto::{Codec, GenMessage, Request};

/// What containerd says when it starts a shim: any command line, a zero byte, any stdin. Both protocols begin with a
/// text, so what is taken for parameters must repeat the flags.
pub fn shim_start(bytes: &[u8]) {
    let cut = bytes.iter().position(|byte| *byte == 0).unwrap_or(0);
    let (line, stdin) = bytes.split_at(cut);
    let stdin = stdin.get(1..).unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let words = line.split(' ').filter(|word| !word.is_empty()).map(Into::into);
    let Ok(mut flags) = flags::Flags::parse(words) else { return };
    // Half of the time the parameters' own, which no fuzzer would guess.
    if let (Ok(params), true) = (BootstrapParams::parse_from_bytes(stdin), line.len().is_multiple_of(2)) {
        (flags.id, flags.namespace) = (params.instance_id, params.namespace);
    }
    for newest in ["2", "3"] {
        let variable = |name: &str| Some(if name == "MAX_SHIM_VERSION" { newest } else { "/t" }.to_owned());
        let Ok(params) = StartParams::parse(stdin, &flags, variable) else { continue };
        let response = params.response("unix:///s").expect("a response");
        let text = std::str::from_utf8(&response).is_ok_and(|text| text.contains("unix:///s"));
        assert!(
            text || BootstrapResult::parse_from_bytes(&response).is_ok_and(|it| it.address == "unix:///s")
        );
        let _ = options::read(params.options.as_ref());
    }
}

/// What comes through a shim's socket: frames, in them requests, in those the messages of the task service, in those
/// options, mounts and streams. What is understood can be written and is understood again as the same.
pub fn shim_calls(bytes: &[u8]) {
    // Each kind of message for itself, for that is found sooner than a frame around it.
    let methods = ["Create", "Checkpoint", "Exec", "Update", "Kill", "State", "Shutdown"];
    if let Some((first, rest)) = bytes.split_first() {
        call(methods[usize::from(*first) % methods.len()], rest);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let mut stream = bytes;
        while let Ok(frame) = GenMessage::read_from(&mut stream).await {
            if let Ok(request) = Request::decode(&frame.payload) {
                call(&request.method, &request.payload);
            }
        }
    });
}

fn whole<M: Message>(bytes: &[u8]) -> Option<M> {
    let message = M::parse_from_bytes(bytes).ok()?;
    let again = message.write_to_bytes().expect("write what was read");
    // Not the bytes: fields that nobody knows come in any order.
    assert!(M::parse_from_bytes(&again).expect("read what was written") == message);
    Some(message)
}

fn call(method: &str, bytes: &[u8]) {
    match method {
        "Create" => {
            if let Some(request) = whole::<CreateTaskRequest>(bytes) {
                create(&request);
            }
        }
        "Checkpoint" => {
            let request = whole::<CheckpointTaskRequest>(bytes);
            request.and_then(|request| whole::<CheckpointOptions>(&request.options.value));
        }
        "State" => drop(whole::<StateRequest>(bytes)),
        "Start" => drop(whole::<StartRequest>(bytes)),
        "Delete" => drop(whole::<DeleteRequest>(bytes)),
        "Pids" => drop(whole::<PidsRequest>(bytes)),
        "Pause" => drop(whole::<PauseRequest>(bytes)),
        "Resume" => drop(whole::<ResumeRequest>(bytes)),
        "Kill" => drop(whole::<KillRequest>(bytes)),
        "Exec" => drop(whole::<ExecProcessRequest>(bytes).map(|request| stream(&request.stdout))),
        "ResizePty" => drop(whole::<ResizePtyRequest>(bytes)),
        "CloseIO" => drop(whole::<CloseIORequest>(bytes)),
        "Update" => drop(whole::<UpdateTaskRequest>(bytes)),
        "Wait" => drop(whole::<WaitRequest>(bytes)),
        "Stats" => drop(whole::<StatsRequest>(bytes)),
        "Connect" => drop(whole::<ConnectRequest>(bytes)),
        _ => drop(whole::<ShutdownRequest>(bytes)),
    }
}

fn create(request: &CreateTaskRequest) {
    let _ = options::read(request.options.as_ref());
    [&request.stdin, &request.stdout, &request.stderr].into_iter().for_each(|text| stream(text));
    for rootfs in &request.rootfs {
        if let Ok(options) = mount::MountOptions::parse(&rootfs.options) {
            assert!(options.data().len() <= rootfs.options.iter().map(|word| word.len() + 1).sum());
        }
    }
}

/// Only what names its scheme: a path alone is looked up.
fn stream(text: &str) {
    use uri::StdioUri;
    if !text.contains("://") {
        return;
    }
    match StdioUri::parse(text) {
        Ok(StdioUri::Fifo(path)) => assert!(path.starts_with('/')),
        Ok(StdioUri::File(path) | StdioUri::RotatingFile(path, _)) => assert!(path.is_absolute()),
        Ok(StdioUri::Binary(binary)) => assert!(binary.path.is_absolute()),
        Ok(StdioUri::Null) => panic!("{text:?} is somewhere"),
        Err(e) => crate::one_line(&format!("{e:#}")),
    }
}
