//! What comes through a shim's socket: frames, in them requests, in those the messages of the task service, in those
//! options and mounts. What is understood can be written and is understood again as the same.

#![no_main]
#![allow(dead_code)]

#[path = "../../../shim/src/rootfs/options.rs"]
mod mount;
#[path = "../../../shim/src/options.rs"]
mod options;

use containerd_shim_protos::api::*;
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::shim::oci::CheckpointOptions;
use containerd_shim_protos::ttrpc::proto::{Codec, GenMessage, Request};
use libfuzzer_sys::fuzz_target;

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
            let Some(wanted) = whole::<CreateTaskRequest>(bytes) else { return };
            let _ = options::read(wanted.options.as_ref());
            for rootfs in &wanted.rootfs {
                if let Ok(options) = mount::Options::of(&rootfs.options) {
                    assert!(options.data().len() <= rootfs.options.iter().map(|word| word.len() + 1).sum());
                }
            }
        }
        "Checkpoint" => {
            let wanted = whole::<CheckpointTaskRequest>(bytes);
            wanted.and_then(|wanted| whole::<CheckpointOptions>(&wanted.options.value));
        }
        "State" => drop(whole::<StateRequest>(bytes)),
        "Start" => drop(whole::<StartRequest>(bytes)),
        "Delete" => drop(whole::<DeleteRequest>(bytes)),
        "Pids" => drop(whole::<PidsRequest>(bytes)),
        "Pause" => drop(whole::<PauseRequest>(bytes)),
        "Resume" => drop(whole::<ResumeRequest>(bytes)),
        "Kill" => drop(whole::<KillRequest>(bytes)),
        "Exec" => drop(whole::<ExecProcessRequest>(bytes)),
        "ResizePty" => drop(whole::<ResizePtyRequest>(bytes)),
        "CloseIO" => drop(whole::<CloseIORequest>(bytes)),
        "Update" => drop(whole::<UpdateTaskRequest>(bytes)),
        "Wait" => drop(whole::<WaitRequest>(bytes)),
        "Stats" => drop(whole::<StatsRequest>(bytes)),
        "Connect" => drop(whole::<ConnectRequest>(bytes)),
        _ => drop(whole::<ShutdownRequest>(bytes)),
    }
}

fuzz_target!(|bytes: &[u8]| {
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
});
