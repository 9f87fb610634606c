//! Whoever connects to the shim, and whatever they say, it goes on.

use ampoule_tests::{Bundle, Shim, call_timeout, repeats, wait_for};
use containerd_shim_protos::api::*;
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::ttrpc::proto::Request;
use containerd_shim_protos::ttrpc::{self, Code};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

/// A frame of ttrpc: length, stream, type (1: request), flags, and what follows.
fn frame(length: u32, stream: u32, body: &[u8]) -> Vec<u8> {
    [&length.to_be_bytes()[..], &stream.to_be_bytes(), &[1, 0], body].concat()
}

fn request(service: &str, method: &str, payload: Vec<u8>) -> Vec<u8> {
    let request = Request { service: service.into(), method: method.into(), payload, ..Default::default() };
    let body = request.write_to_bytes().unwrap();
    frame(body.len() as u32, 1, &body)
}

fn send(shim: &Shim, bytes: &[u8]) -> UnixStream {
    let mut stream = UnixStream::connect(&shim.socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    // The shim may hang up before all is said.
    let _ = stream.write_all(bytes);
    stream
}

/// The code of the answer.
fn answer(mut stream: UnixStream) -> Code {
    let mut header = [0; 10];
    stream.read_exact(&mut header).expect("an answer");
    let mut body = vec![0; u32::from_be_bytes(header[..4].try_into().unwrap()) as usize];
    stream.read_exact(&mut body).expect("an answer");
    ttrpc::Response::parse_from_bytes(&body).expect("an answer").status.code()
}

fn descriptors(shim: &Shim) -> usize {
    fs::read_dir(format!("/proc/{}/fd", shim.pid)).unwrap().count()
}

/// Alive, and with as many descriptors as before.
#[track_caller]
fn check(shim: &Shim, before: usize) {
    assert_eq!(shim.state("").unwrap().status(), Status::RUNNING);
    wait_for("descriptors to be closed", || descriptors(shim) <= before);
}

fn running() -> (Shim, usize) {
    let shim = Shim::start(Bundle::sleeping());
    shim.launch();
    let before = descriptors(&shim);
    (shim, before)
}

/// Bytes that are the same each time.
fn noise(seed: &mut u64, length: usize) -> Vec<u8> {
    let mut next = || {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed as u8
    };
    (0..length).map(|_| next()).collect()
}

const SEED: u64 = 0x2545_f491_4f6c_dd1d;

#[test]
fn garbage_and_half_frames_harm_nobody() {
    let (shim, before) = running();
    let mut seed = SEED;
    for round in 0..repeats(300) {
        let bytes = noise(&mut seed, 1 + round % 200);
        drop(send(&shim, &bytes));
        // A header that promises more than comes, and one that comes to a good end but for the last byte.
        drop(send(&shim, &frame(100, 1, &bytes[..bytes.len().min(50)])));
        let good = request("containerd.task.v2.Task", "State", vec![10, 1, b'x']);
        drop(send(&shim, &good[..good.len() - 1]));
    }
    check(&shim, before);
}

#[test]
fn half_a_frame_that_never_ends_holds_up_nobody_else() {
    let (shim, before) = running();
    let streams: Vec<_> = (0..20).map(|_| send(&shim, &frame(4 << 20, 1, b"half"))).collect();
    assert_eq!(shim.state("").unwrap().status(), Status::RUNNING);
    drop(streams);
    check(&shim, before);
}

#[test]
fn a_frame_over_the_limit_is_refused() {
    let (shim, before) = running();
    let length = (4 << 20) + 1;
    let mut stream = send(&shim, &frame(length, 1, b""));
    stream.write_all(&vec![0; length as usize]).unwrap();
    assert_eq!(answer(stream), Code::INVALID_ARGUMENT);
    let mut stream = send(&shim, &frame(u32::MAX, 1, b""));
    stream.write_all(&vec![0; 8 << 20]).unwrap();
    drop(stream);
    check(&shim, before);
    assert!(shim.memory("Private_Dirty") < 1024, "{} kB", shim.memory("Private_Dirty"));
}

#[test]
fn calls_that_nobody_knows_have_the_right_codes() {
    let (shim, before) = running();
    for service in ["containerd.task.v2.Task", "containerd.task.v3.Task"] {
        assert_eq!(answer(send(&shim, &request(service, "Fly", vec![]))), Code::UNIMPLEMENTED);
        let gone = StateRequest { id: "gone".into(), ..Default::default() }.write_to_bytes().unwrap();
        assert_eq!(answer(send(&shim, &request(service, "State", gone))), Code::NOT_FOUND);
        let state = StateRequest { id: shim.id.clone(), ..Default::default() }.write_to_bytes().unwrap();
        assert_eq!(answer(send(&shim, &request(service, "State", state))), Code::OK);
    }
    let unknown = answer(send(&shim, &request("no.such.Service", "State", vec![])));
    assert!(matches!(unknown, Code::INVALID_ARGUMENT | Code::UNIMPLEMENTED), "{unknown:?}");
    let undecodable = answer(send(&shim, &request("containerd.task.v2.Task", "State", vec![0xff; 9])));
    assert_ne!(undecodable, Code::OK);
    check(&shim, before);
}

#[test]
fn every_call_answers_messages_that_are_partly_noise() {
    let (shim, before) = running();
    let calls = "State Create Start Delete Pids Pause Resume Checkpoint Kill Exec ResizePty CloseIO Update Wait Stats \
                 Connect Shutdown";
    let calls: Vec<_> = calls.split_whitespace().collect();
    let mut seed = SEED;
    for round in 0..repeats(calls.len() * 40) {
        let call = calls[round % calls.len()];
        // Nobody's id; then, half of the time, a text in one of the next fields, and noise.
        let mut message = b"\x0a\x04gone".to_vec();
        let field = noise(&mut seed, 6);
        if field[0].is_multiple_of(2) {
            message.extend([(2 + field[1] % 8) << 3 | 2, 4]);
            message.extend(&field[2..]);
        }
        message.extend(noise(&mut seed, round % 60));
        let code = answer(send(&shim, &request("containerd.task.v2.Task", call, message)));
        assert!(code != Code::OK || ["Connect", "Shutdown"].contains(&call), "{call}: {code:?}");
    }
    check(&shim, before);
}

#[test]
fn clients_that_leave_in_the_middle_of_wait_leave_nothing() {
    let (shim, before) = running();
    let wait = WaitRequest { id: shim.id.clone(), ..Default::default() }.write_to_bytes().unwrap();
    let leave = |times: usize| {
        for n in 0..times {
            drop(send(&shim, &request("containerd.task.v2.Task", "Wait", wait.clone())));
            // What many at a time need stays with the allocator.
            if n % 20 == 0 {
                check(&shim, before);
            }
        }
        check(&shim, before);
        shim.memory("Private_Dirty")
    };
    let (first, second) = (leave(repeats(2000)), leave(repeats(4000)));
    assert!(second <= first + 32, "from {first} to {second} kB");
}

#[test]
fn a_create_whose_client_has_left_is_finished() {
    let shim = Shim::start(Bundle::sleeping());
    let create = shim.create_request().write_to_bytes().unwrap();
    drop(send(&shim, &request("containerd.task.v2.Task", "Create", create)));
    shim.events.wait("create", &shim.id);
    wait_for("the container", || shim.state("").is_ok());
    shim.start_process(&shim.id, "");
}

#[test]
fn only_its_own_user_can_connect() {
    let shim = Shim::start(Bundle::sleeping());
    let meta = fs::metadata(&shim.socket).unwrap();
    assert_eq!((meta.permissions().mode() & 0o777, meta.uid()), (0o600, 0));
    let connect = |path: &str| {
        let mut other = Command::new(shim.bundle().rootfs().join("bin/probe"));
        let output = other.args(["connect", path]).uid(65534).gid(65534).output().expect("run the probe");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(connect(shim.socket.to_str().unwrap()), "{\"error\":\"EACCES\"}\n");
    // Who got hold of the socket otherwise is not listened to.
    fs::set_permissions(&shim.socket, fs::Permissions::from_mode(0o666)).unwrap();
    let held = open(&shim.socket, OFlag::O_PATH, Mode::empty()).unwrap();
    let answer = connect(&format!("/proc/self/fd/{}", held.as_raw_fd()));
    assert!(answer == "{\"bytes\":0}\n" || answer.contains("ECONNRESET"), "{answer}");
    shim.tasks.create(call_timeout(), &shim.create_request()).unwrap();
}
