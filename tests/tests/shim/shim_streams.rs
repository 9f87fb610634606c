//! What containers read and write through the shim.

use ampoule_tests::{Bundle, Shim, call_timeout, patience, repeats, wait_for};
use containerd_shim_protos::api::*;
use nix::poll::{PollFd, PollFlags, poll};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::time::{Duration, Instant};

/// Reads a fifo to its end, elsewhere.
fn reading(path: &str) -> std::thread::JoinHandle<String> {
    let mut file = reader(path);
    std::thread::spawn(move || {
        // Before there was a writer, a read would give an end that is none.
        assert!(is_ready(&file, patience().as_millis() as u16), "nothing was ever written");
        let mut text = String::new();
        file.read_to_string(&mut text).expect("read the fifo");
        text
    })
}

/// Whether there is something to read, or the end.
fn is_ready(file: &File, milliseconds: u16) -> bool {
    poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLIN)], milliseconds) == Ok(1)
}

/// Opens a fifo for reading, whether or not there is a writer, and then to wait for what comes.
fn reader(path: &str) -> File {
    let file =
        OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path).expect("open the fifo");
    nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::empty()))
        .expect("make it wait");
    file
}

/// Reads what `gush MIB` writes, and sees that nothing is missing, doubled or changed.
fn check_gush(mut file: File, mib: u64, mut between: impl FnMut()) {
    let mut block = vec![0; 1 << 20];
    for mebibyte in 0..mib {
        file.read_exact(&mut block).expect("read the stream");
        for (n, eight) in block.as_chunks().0.iter().enumerate() {
            assert_eq!(u64::from_le_bytes(*eight), (mebibyte << 17) + n as u64);
        }
        between();
    }
    assert_eq!(file.read(&mut block).expect("read the stream"), 0, "more than was written");
}

#[test]
fn output_and_input_go_through_fifos_and_end() {
    let shim = Shim::start(Bundle::asking(&["swallow"]));
    let (stdin, stdout) = (shim.fifo("in"), shim.fifo("out"));
    let out = reading(&stdout);
    shim.launch_with(CreateTaskRequest { stdin: stdin.clone(), stdout, ..shim.create_request() });
    let mut pipe = OpenOptions::new().write(true).open(stdin).unwrap();
    pipe.write_all(b"hello").unwrap();
    drop(pipe);
    // The writer has gone, but only CloseIO is the end.
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(shim.state("").unwrap().status(), Status::RUNNING);
    let close = CloseIORequest { id: shim.id.clone(), stdin: true, ..Default::default() };
    shim.tasks.close_io(call_timeout(), &close).unwrap();
    assert_eq!(shim.wait(""), 0);
    assert!(out.join().unwrap().contains(r#""bytes":5"#));
}

#[test]
fn a_gigabyte_comes_through_unchanged_and_the_shim_grows_by_nothing() {
    let mib = repeats(1024) as u64;
    for is_exec in [false, true] {
        let shim = Shim::start(if is_exec {
            Bundle::sleeping()
        } else {
            Bundle::asking(&["gush", &mib.to_string()])
        });
        let stdout = shim.fifo("out");
        let file = reader(&stdout);
        let exec_id = if is_exec {
            shim.launch();
            shim.exec(&ExecProcessRequest { stdout, ..shim.exec_request("e", &["gush", &mib.to_string()]) });
            "e"
        } else {
            shim.launch_with(CreateTaskRequest { stdout, ..shim.create_request() });
            ""
        };
        let before = shim.memory("Private_Dirty");
        let mut most = before;
        check_gush(file, mib, || most = most.max(shim.memory("Private_Dirty")));
        assert_eq!(shim.wait(exec_id), 0);
        assert!(most <= before + 64, "from {before} to {most} kB while it wrote");
    }
}

#[test]
fn output_waits_for_a_reader_that_has_gone_away() {
    let shim = Shim::start(Bundle::asking(&["gush", "4"]));
    let stdout = shim.fifo("out");
    let first = reader(&stdout);
    shim.launch_with(CreateTaskRequest { stdout: stdout.clone(), ..shim.create_request() });
    wait_for("output", || is_ready(&first, 0));
    drop(first);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(shim.state("").unwrap().status(), Status::RUNNING, "it lost its reader and died");
    check_gush(reader(&stdout), 4, || {});
    assert_eq!(shim.wait(""), 0);
}

#[test]
fn what_a_container_wrote_while_nobody_read_is_there_after_its_end() {
    let shim = Shim::start(Bundle::asking(&["cwd"]));
    let stdout = shim.fifo("out");
    shim.launch_with(CreateTaskRequest { stdout: stdout.clone(), ..shim.create_request() });
    assert_eq!(shim.wait(""), 0);
    assert_eq!(reading(&stdout).join().unwrap(), "\"/\"\n");
}

/// Reads a fifo to its end as containerd does, whose open(2) waits for a writer.
fn read_in_a_waiting_thread(path: String) -> String {
    let (sender, read) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(fs::read_to_string(path)));
    read.recv_timeout(patience()).expect("it waits for a writer").expect("read the fifo")
}

#[test]
fn a_client_that_opens_a_fifo_after_the_end_has_what_was_written() {
    for terminal in [false, true] {
        let bundle = Bundle::asking(&["cwd"]).with(|c| c["process"]["terminal"] = terminal.into());
        let shim = Shim::start(bundle);
        let stdout = shim.fifo("out");
        shim.launch_with(CreateTaskRequest { stdout: stdout.clone(), terminal, ..shim.create_request() });
        assert_eq!(shim.wait(""), 0);
        assert_eq!(read_in_a_waiting_thread(stdout).trim_end(), "\"/\"");
    }
    let shim = Shim::start(Bundle::sleeping());
    shim.launch();
    let stdout = shim.fifo("out");
    shim.exec(&ExecProcessRequest { stdout: stdout.clone(), ..shim.exec_request("e", &["cwd"]) });
    assert_eq!(shim.wait("e"), 0);
    assert_eq!(read_in_a_waiting_thread(stdout), "\"/\"\n");
}

#[test]
fn an_exec_that_leaves_a_child_with_its_output_ends_for_its_reader_too() {
    let shim = Shim::start(Bundle::sleeping());
    shim.launch();
    let stdout = shim.fifo("out");
    let out = reading(&stdout);
    let request = ExecProcessRequest { stdout, ..shim.exec_request("e", &["linger", "1000"]) };
    shim.exec(&request);
    let began = Instant::now();
    assert_eq!(shim.wait("e"), 0);
    shim.delete("e").unwrap();
    assert!(began.elapsed() < Duration::from_secs(1), "Delete waited for the child's output");
    assert!(out.join().unwrap().contains("\"left\"\n"));
    assert!(began.elapsed() < patience(), "the reader waited for the child to end");
}

#[test]
fn an_execs_last_lines_are_not_lost_to_a_slow_reader() {
    let shim = Shim::start(Bundle::sleeping());
    shim.launch();
    let stdout = shim.fifo("out");
    let file = reader(&stdout);
    // More than the fifo takes: what is left is in the pipe when the exec is deleted.
    shim.exec(&ExecProcessRequest { stdout, ..shim.exec_request("e", &["gush", "1"]) });
    let mut file = file;
    let mut all = vec![0; (1 << 20) - (100 << 10)];
    file.read_exact(&mut all).unwrap();
    assert_eq!(shim.wait("e"), 0);
    shim.delete("e").unwrap();
    std::thread::sleep(Duration::from_secs(3));
    let mut rest = Vec::new();
    file.read_to_end(&mut rest).unwrap();
    assert_eq!(all.len() + rest.len(), 1 << 20);
}

#[test]
fn output_goes_to_files_by_url() {
    let shim = Shim::start(Bundle::asking(&["cwd"]));
    let log = shim.bundle().beside("logs/new/log");
    let url = format!("file://{}", log.display());
    shim.launch_with(CreateTaskRequest { stdout: url.clone(), stderr: url, ..shim.create_request() });
    assert_eq!(shim.wait(""), 0);
    assert_eq!(fs::read_to_string(log).unwrap(), "\"/\"\n");
}

#[test]
fn a_logger_gets_the_output_and_says_when_it_is_ready() {
    for (scheme, ready) in [("binary", "exec 5>&-"), ("binary-v2", "printf x >&5; exec 5>&-")] {
        let shim = Shim::start(Bundle::asking(&["cwd"]));
        let (script, log) = (shim.bundle().beside("logger"), shim.bundle().beside("log"));
        let text = format!(
            "#!/bin/sh\n{ready}\necho $CONTAINER_ID $CONTAINER_NAMESPACE $1 $2 >{log}.about\ncat <&3 >{log}\n",
            log = log.display()
        );
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let url = format!("{scheme}://{}?key=a%20value", script.display());
        shim.launch_with(CreateTaskRequest { stdout: url.clone(), stderr: url, ..shim.create_request() });
        assert_eq!(shim.wait(""), 0);
        wait_for("the log", || fs::read_to_string(&log).is_ok_and(|text| text == "\"/\"\n"));
        let about = fs::read_to_string(log.with_extension("about")).unwrap();
        assert_eq!(about, format!("{} test key a value\n", shim.id));
    }
}

#[test]
fn a_logger_that_never_becomes_ready_fails_the_create() {
    let shim = Shim::start(Bundle::asking(&["cwd"]));
    for url in ["binary:///no/such/logger", "binary-v2:///bin/true"] {
        let request = CreateTaskRequest { stdout: url.into(), stderr: url.into(), ..shim.create_request() };
        let error = shim.tasks.create(call_timeout(), &request).unwrap_err().to_string();
        assert!(error.contains("logger"), "{error}");
    }
}

#[test]
fn a_terminal_has_its_size_and_carries_both_ways() {
    let mut bundle = Bundle::asking(&["line", ",", "tty"]);
    bundle.config["process"]["terminal"] = true.into();
    let shim = Shim::start(bundle);
    let (stdin, stdout) = (shim.fifo("in"), shim.fifo("out"));
    let out = reading(&stdout);
    let request = CreateTaskRequest { terminal: true, stdin: stdin.clone(), stdout, ..shim.create_request() };
    shim.tasks.create(call_timeout(), &request).unwrap();
    let resize = ResizePtyRequest { id: shim.id.clone(), width: 91, height: 37, ..Default::default() };
    shim.tasks.resize_pty(call_timeout(), &resize).unwrap();
    shim.start_process(&shim.id, "");
    OpenOptions::new().write(true).open(stdin).unwrap().write_all(b"typed\n").unwrap();
    assert_eq!(shim.wait(""), 0);
    let shown = out.join().unwrap();
    assert!(shown.contains("typed") && shown.contains("37") && shown.contains("91"), "{shown}");
}

#[test]
fn an_exec_may_have_a_terminal_of_its_own() {
    let shim = Shim::start(Bundle::sleeping());
    shim.launch();
    let stdout = shim.fifo("out");
    let out = reading(&stdout);
    let mut request = ExecProcessRequest { terminal: true, stdout, ..shim.exec_request("e", &["tty"]) };
    let process = &mut request.spec.mut_or_insert_default().value;
    let mut spec: serde_json::Value = serde_json::from_slice(process).unwrap();
    spec["terminal"] = true.into();
    *process = spec.to_string().into();
    shim.exec(&request);
    assert_eq!(shim.wait("e"), 0);
    shim.delete("e").unwrap();
    let shown = out.join().unwrap();
    assert!(shown.contains("/dev/pts/"), "{shown}");
}

#[test]
fn streams_that_lead_nowhere_are_errors_and_leave_nothing() {
    let shim = Shim::start(Bundle::asking(&["cwd"]));
    for stdout in ["/no/such/fifo", "ftp://host/file", "binary://relative", "file://relative"] {
        let request = CreateTaskRequest { stdout: stdout.to_owned(), ..shim.create_request() };
        let error = shim.tasks.create(call_timeout(), &request).unwrap_err().to_string();
        assert!(error.contains(stdout), "{error}");
    }
    shim.launch();
    assert_eq!(shim.wait(""), 0);
}

#[test]
fn a_terminal_whose_output_leads_nowhere_leaves_no_container() {
    let mut bundle = Bundle::sleeping();
    bundle.config["process"]["terminal"] = true.into();
    let shim = Shim::start(bundle);
    let request =
        CreateTaskRequest { terminal: true, stdout: "/no/such/fifo".into(), ..shim.create_request() };
    for _ in 0..2 {
        let error = shim.tasks.create(call_timeout(), &request).unwrap_err().to_string();
        assert!(error.contains("/no/such/fifo"), "{error}");
    }
    assert!(!shim.leftovers().iter().any(|left| left.starts_with("cgroup") || left.starts_with("state")));
}
