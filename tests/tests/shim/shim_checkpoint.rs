//! Checkpoint, and restore by a Create that names it, through the shim.

use ampoule_tests::criu::{WHY, works};
use ampoule_tests::{Bundle, Shim, call_timeout, require, wait_for};
use containerd_shim_protos::api::*;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::shim::oci::CheckpointOptions;
use containerd_shim_protos::ttrpc;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

/// What a counter has written, to a fifo or a file.
struct Output(File, String);

impl Output {
    fn open(path: &str) -> Self {
        // A fifo stays open between two writers.
        let mut file = OpenOptions::new();
        file.read(true).write(true).create(true).truncate(false).custom_flags(nix::libc::O_NONBLOCK);
        Self(file.open(path).expect("open the output"), String::new())
    }

    fn numbers(&mut self) -> Vec<u64> {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = self.0.read(&mut bytes) {
            self.1 += std::str::from_utf8(&bytes[..count]).expect("numbers");
        }
        let whole = self.1.rfind('\n').map_or("", |end| &self.1[..end]);
        whole.lines().map(|line| line.parse().expect("a number")).collect()
    }

    #[track_caller]
    fn wait_for(&mut self, count: usize) {
        wait_for("the counter", || self.numbers().len() >= count);
    }
}

fn checkpoint(shim: &Shim, images: &str, exit: bool) -> ttrpc::Result<Empty> {
    let options = CheckpointOptions { exit, ..Default::default() };
    let options = Any {
        type_url: "containerd.runc.v1.CheckpointOptions".to_owned(),
        value: options.write_to_bytes().expect("encode the options"),
        ..Default::default()
    };
    let (id, path, options) = (shim.id.clone(), images.to_owned(), MessageField::some(options));
    shim.tasks.checkpoint(call_timeout(), &CheckpointTaskRequest { id, path, options, ..Default::default() })
}

/// A counter through the shim: saved and left running, saved and ended, restored, killed.
fn there_and_back(shim: &Shim, stdout: String, mut output: Output) {
    let images = shim.bundle().beside("images").to_str().expect("a UTF-8 path").to_owned();
    let first = shim.launch_with(CreateTaskRequest { stdout: stdout.clone(), ..shim.create_request() });
    output.wait_for(2);
    checkpoint(shim, &images, false).unwrap();
    assert_eq!(shim.state("").unwrap().status(), Status::RUNNING);
    let seen = output.numbers().len();
    output.wait_for(seen + 2);
    checkpoint(shim, &images, true).unwrap();
    assert_eq!(shim.wait(""), 137);
    shim.delete("").unwrap();
    let seen = output.numbers().len();

    let request = CreateTaskRequest { stdout, checkpoint: images, ..shim.create_request() };
    assert_eq!(shim.tasks.create(call_timeout(), &request).unwrap().pid, 0);
    let pid = shim.start_process(&shim.id, "") as i32;
    assert_ne!(pid, first);
    output.wait_for(seen + 2);
    let numbers = output.numbers();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    let state = shim.state("").unwrap();
    assert_eq!((state.status(), state.pid as i32), (Status::RUNNING, pid));
    shim.kill("", 9).unwrap();
    assert_eq!(shim.wait(""), 137);
    shim.delete("").unwrap();
    // CRIU ends the processes before it has told that it is done.
    let of_checkpoints = |topic: &String| topic == "checkpointed";
    let topics = || shim.events.topics(&shim.id).into_iter().partition::<Vec<_>, _>(of_checkpoints);
    wait_for("the events", || topics().1.len() == 8 && topics().0.len() == 2);
    assert_eq!(topics().1, ["create", "start", "exit", "delete"].repeat(2));
}

#[test]
fn a_container_that_writes_to_a_fifo_is_saved_and_goes_on_where_it_was() {
    require!(works(), "CRIU", named WHY);
    let shim = Shim::start(Bundle::asking(&["count"]));
    let stdout = shim.fifo("out");
    let output = Output::open(&stdout);
    there_and_back(&shim, stdout, output);
}

#[test]
fn a_container_that_writes_to_a_file_is_saved_and_goes_on_where_it_was() {
    require!(works(), "CRIU", named WHY);
    let shim = Shim::start(Bundle::asking(&["count"]));
    let path = shim.bundle().beside("out").to_str().unwrap().to_owned();
    let output = Output::open(&path);
    there_and_back(&shim, format!("file://{path}"), output);
}

#[test]
fn a_checkpoint_that_fails_leaves_it_running_and_one_that_is_none_cannot_be_started() {
    require!(works(), "CRIU", named WHY);
    let shim = Shim::start(Bundle::asking(&["count"]));
    let images = shim.bundle().beside("base").to_str().unwrap().to_owned();
    std::fs::write(&images, "no directory").unwrap();
    shim.launch();
    let error = checkpoint(&shim, &images, true).unwrap_err().to_string();
    assert!(error.contains("base"), "{error}");
    assert_eq!(shim.state("").unwrap().status(), Status::RUNNING);
    shim.kill("", 9).unwrap();
    shim.wait("");
    shim.delete("").unwrap();
    let request = CreateTaskRequest { checkpoint: images, ..shim.create_request() };
    shim.tasks.create(call_timeout(), &request).unwrap();
    let start = StartRequest { id: shim.id.clone(), ..Default::default() };
    let error = shim.tasks.start(call_timeout(), &start).unwrap_err().to_string();
    assert!(error.contains("base"), "{error}");
    shim.delete("").unwrap();
}
