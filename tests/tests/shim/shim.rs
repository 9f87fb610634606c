//! The shim, spoken to as containerd does.

use ampoule_tests::{Bundle, Cgroups, Runtime, Shim, call_timeout, repeats, require, wait_for};
use containerd_shim_protos::api::*;
use containerd_shim_protos::ttrpc::{self, Code};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;

const KILL: i32 = Signal::SIGKILL as i32;

fn code<T: std::fmt::Debug>(answer: ttrpc::Result<T>) -> Code {
    match answer {
        Err(ttrpc::Error::RpcStatus(status)) => status.code(),
        other => panic!("expected a status, got {other:?}"),
    }
}

#[test]
fn a_container_goes_from_create_to_delete() {
    let shim = Shim::start(Bundle::sleeping());
    let pid = shim.tasks.create(call_timeout(), &shim.create_request()).unwrap().pid;
    let state = shim.state("").unwrap();
    assert_eq!((state.status(), state.pid), (Status::CREATED, pid));
    assert_eq!(shim.start_process(&shim.id, ""), pid);
    assert_eq!(shim.state("").unwrap().status(), Status::RUNNING);
    let connect =
        shim.tasks.connect(call_timeout(), &ConnectRequest { id: shim.id.clone(), ..Default::default() });
    assert_eq!(connect.unwrap().task_pid, pid);
    assert_eq!(code(shim.delete("")), Code::FAILED_PRECONDITION);
    shim.kill("", KILL).unwrap();
    assert_eq!(shim.wait(""), 137);
    let state = shim.state("").unwrap();
    assert_eq!((state.status(), state.exit_status), (Status::STOPPED, 137));
    assert_eq!(code(shim.kill("", KILL)), Code::NOT_FOUND);
    assert_eq!(shim.delete("").unwrap(), 137);
    assert_eq!(code(shim.state("")), Code::NOT_FOUND);
    shim.events.wait("delete", &shim.id);
    assert_eq!(shim.events.topics(&shim.id), ["create", "start", "exit", "delete"]);
}

#[test]
fn a_created_container_can_be_deleted_without_being_started() {
    let shim = Shim::start(Bundle::sleeping());
    shim.tasks.create(call_timeout(), &shim.create_request()).unwrap();
    shim.delete("").unwrap();
    shim.events.wait("delete", &shim.id);
    assert_eq!(shim.events.topics(&shim.id), ["create", "exit", "delete"]);
}

#[test]
fn processes_that_end_before_start_returns_have_exactly_one_exit_each() {
    let shim = Shim::start(Bundle::asking(&["exit", "3"]));
    // An emulated machine takes seconds for each, most of all with systemd.
    let rounds = if repeats(1000) < 1000 { 30 } else { 1000 };
    for _ in 0..rounds {
        shim.launch();
        assert_eq!(shim.wait(""), 3);
        assert_eq!(shim.delete("").unwrap(), 3);
    }
    let all = || shim.events.topics(&shim.id);
    wait_for("all the events", || all().iter().filter(|topic| *topic == "delete").count() == rounds);
    let expected = ["create", "start", "exit", "delete"].repeat(rounds);
    assert!(all() == expected, "the events of {rounds} rounds are {:?}", all());
}

#[test]
fn a_hundred_execs_at_once_each_have_their_exit_and_their_place_in_the_news() {
    let shim = Shim::start(Bundle::sleeping());
    shim.launch();
    std::thread::scope(|scope| {
        for n in 0..100 {
            let shim = &shim;
            scope.spawn(move || {
                let (tasks, name) = (shim.connect(), format!("e{n}"));
                let request = shim.exec_request(&name, &["exit", &n.to_string()]);
                tasks.exec(call_timeout(), &request).unwrap();
                let (id, exec_id) = (shim.id.clone(), name.clone());
                let start = StartRequest { id: id.clone(), exec_id: exec_id.clone(), ..Default::default() };
                tasks.start(call_timeout(), &start).unwrap();
                let wait = WaitRequest { id, exec_id, ..Default::default() };
                assert_eq!(tasks.wait(call_timeout(), &wait).unwrap().exit_status, n);
                assert_eq!(shim.delete(&name).unwrap(), n);
            });
        }
    });
    for n in 0..100 {
        let whose = format!("{}/e{n}", shim.id);
        assert_eq!(shim.events.wait("exit", &whose), n);
        assert_eq!(shim.events.topics(&whose), ["exec-added", "exec-started", "exit"]);
    }
}

#[test]
fn an_inits_exit_is_told_after_its_execs_and_then_nothing_can_be_started() {
    let shim = Shim::start(Bundle::sleeping());
    shim.launch();
    let names: Vec<String> = (0..5).map(|n| format!("e{n}")).collect();
    for name in &names {
        shim.exec(&shim.exec_request(name, &["sleep", "1000"]));
    }
    shim.tasks.exec(call_timeout(), &shim.exec_request("late", &["exit", "0"])).unwrap();
    shim.kill("", KILL).unwrap();
    shim.wait("");
    let start = StartRequest { id: shim.id.clone(), exec_id: "late".into(), ..Default::default() };
    assert_eq!(code(shim.tasks.start(call_timeout(), &start)), Code::FAILED_PRECONDITION);
    let refused = shim.tasks.exec(call_timeout(), &shim.exec_request("later", &["exit", "0"]));
    assert_eq!(code(refused), Code::FAILED_PRECONDITION);
    shim.events.wait("exit", &shim.id);
    let events = shim.events.received();
    let exits: Vec<_> =
        events.iter().filter(|event| event.topic == "exit").map(|event| &event.process).collect();
    assert_eq!(exits.len(), 6, "{exits:?}");
    assert_eq!(exits.last(), Some(&&shim.id));
}

#[test]
fn without_a_pid_namespace_execs_end_with_the_init() {
    let shim = Shim::start(Bundle::sleeping().without_namespace("pid"));
    shim.launch();
    shim.exec(&shim.exec_request("e", &["sleep", "1000"]));
    shim.kill("", KILL).unwrap();
    assert_eq!((shim.wait("e"), shim.wait("")), (137, 137));
    shim.events.wait("exit", &shim.id);
    let events = shim.events.received();
    let position =
        |process: &str| events.iter().position(|event| event.topic == "exit" && event.process == process);
    assert!(position(&format!("{}/e", shim.id)) < position(&shim.id), "{events:?}");
}

#[test]
fn an_exec_that_cannot_be_started_says_why_and_may_be_deleted() {
    let shim = Shim::start(Bundle::sleeping());
    shim.launch();
    let mut request = shim.exec_request("e", &["exit", "0"]);
    let mut process = shim.bundle().config["process"].clone();
    process["args"] = serde_json::json!(["/no/such/program"]);
    request.spec.mut_or_insert_default().value = process.to_string().into();
    shim.tasks.exec(call_timeout(), &request).unwrap();
    let start = StartRequest { id: shim.id.clone(), exec_id: "e".into(), ..Default::default() };
    let error = shim.tasks.start(call_timeout(), &start).unwrap_err().to_string();
    assert!(error.contains("/no/such/program"), "{error}");
    shim.delete("e").unwrap();
    assert_eq!(code(shim.state("e")), Code::NOT_FOUND);
}

#[test]
fn a_create_that_fails_leaves_its_id_free() {
    let mut bundle = Bundle::sleeping();
    bundle.config["process"]["args"] = serde_json::json!(["/no/such/program"]);
    let shim = Shim::start(bundle);
    // Runtimes find out at create or at start.
    for _ in 0..2 {
        let error = shim.tasks.create(call_timeout(), &shim.create_request()).err().map(|e| e.to_string());
        let error = error.unwrap_or_else(|| {
            let start = StartRequest { id: shim.id.clone(), ..Default::default() };
            let error = shim.tasks.start(call_timeout(), &start).unwrap_err().to_string();
            let _ = shim.delete("");
            error
        });
        assert!(error.contains("/no/such/program"), "{error}");
    }
}

#[test]
fn ids_are_names_and_each_is_there_once() {
    let shim = Shim::start(Bundle::sleeping());
    shim.launch();
    assert_eq!(code(shim.tasks.create(call_timeout(), &shim.create_request())), Code::ALREADY_EXISTS);
    for id in ["", "..", "a/b", "../../etc"] {
        let request = CreateTaskRequest { id: id.to_owned(), ..shim.create_request() };
        assert_eq!(code(shim.tasks.create(call_timeout(), &request)), Code::INVALID_ARGUMENT, "{id:?}");
        let request = ExecProcessRequest { exec_id: id.to_owned(), ..shim.exec_request("x", &["exit", "0"]) };
        assert_eq!(code(shim.tasks.exec(call_timeout(), &request)), Code::INVALID_ARGUMENT, "{id:?}");
    }
    let exec = shim.exec_request("e", &["sleep", "1000"]);
    shim.tasks.exec(call_timeout(), &exec).unwrap();
    assert_eq!(code(shim.tasks.exec(call_timeout(), &exec)), Code::ALREADY_EXISTS);
    assert_eq!(code(shim.kill("e", KILL)), Code::FAILED_PRECONDITION);
    assert_eq!(code(shim.kill("nobody", KILL)), Code::NOT_FOUND);
}

#[test]
fn pause_resume_update_pids_and_stats_answer() {
    let shim = Shim::start(Bundle::sleeping());
    let init = shim.launch();
    let exec = shim.exec(&shim.exec_request("e", &["sleep", "1000"]));
    let id = || shim.id.clone();
    shim.tasks.pause(call_timeout(), &PauseRequest { id: id(), ..Default::default() }).unwrap();
    assert_eq!(shim.state("").unwrap().status(), Status::PAUSED);
    shim.tasks.resume(call_timeout(), &ResumeRequest { id: id(), ..Default::default() }).unwrap();
    assert_eq!(shim.state("").unwrap().status(), Status::RUNNING);

    let pids =
        shim.tasks.pids(call_timeout(), &PidsRequest { id: id(), ..Default::default() }).unwrap().processes;
    let pids: BTreeMap<u32, bool> = pids.into_iter().map(|p| (p.pid, p.info.is_some())).collect();
    assert_eq!(pids, [(init as u32, false), (exec, true)].into());

    let mut update = UpdateTaskRequest { id: id(), ..Default::default() };
    update.resources.mut_or_insert_default().value = br#"{"pids":{"limit":77}}"#.to_vec();
    shim.tasks.update(call_timeout(), &update).unwrap();
    let stats =
        shim.tasks.stats(call_timeout(), &StatsRequest { id: id(), ..Default::default() }).unwrap().stats;
    let limit = match stats.type_url.as_str() {
        "io.containerd.cgroups.v1.Metrics" => {
            metrics::<containerd_shim_protos::cgroups::metrics::Metrics>(&stats.value).pids.limit
        }
        "io.containerd.cgroups.v2.Metrics" => {
            metrics::<containerd_shim_protos::cgroups_v2::metrics::Metrics>(&stats.value).pids.limit
        }
        other => panic!("{other}"),
    };
    assert_eq!(limit, 77);
    for topic in ["paused", "resumed"] {
        shim.events.wait(topic, &shim.id);
    }
}

#[test]
fn a_container_that_has_ended_still_lists_its_init() {
    // Or containerd, when it comes back, takes the shim for a leaked one.
    let shim = Shim::start(Bundle::asking(&["exit", "4"]));
    let pid = shim.launch();
    assert_eq!(shim.wait(""), 4);
    let request = PidsRequest { id: shim.id.clone(), ..Default::default() };
    let pids: Vec<_> =
        shim.tasks.pids(call_timeout(), &request).unwrap().processes.iter().map(|p| p.pid).collect();
    assert_eq!(pids, [pid as u32]);
}

fn metrics<M: containerd_shim_protos::protobuf::Message>(bytes: &[u8]) -> M {
    M::parse_from_bytes(bytes).expect("metrics")
}

#[test]
fn real_time_signals_are_exits_like_others() {
    let shim = Shim::start(Bundle::sleeping());
    shim.launch();
    shim.exec(&shim.exec_request("e", &["sleep", "1000"]));
    shim.kill("e", 40).unwrap();
    assert_eq!(shim.wait("e"), 128 + 40);
    assert_eq!(code(shim.kill("e", 40)), Code::NOT_FOUND);
}

#[test]
fn a_process_killed_for_want_of_memory_is_told_before_its_exit() {
    let has_memory =
        ampoule_tests::has_cgroup_v1("memory") || ampoule_tests::has_cgroup_v2_controller("memory");
    ampoule_tests::require!(has_memory, "the memory controller");
    let limit = serde_json::json!({ "limit": 32 << 20, "swap": 32 << 20 });
    let bundle = Bundle::asking(&["alloc", "100"]).with(|c| c["linux"]["resources"]["memory"] = limit);
    let shim = Shim::start(bundle);
    shim.launch();
    assert_eq!(shim.wait(""), 137);
    shim.events.wait("exit", &shim.id);
    let topics = shim.events.topics(&shim.id);
    let position = |topic: &str| topics.iter().position(|t| t == topic);
    assert!(position("oom").is_some() && position("oom") < position("exit"), "{topics:?}");
}

#[test]
fn a_killed_container_is_told_of_although_systemd_has_removed_its_cgroup() {
    let under_systemd = Runtime::get().flags().contains(&"--systemd-cgroup");
    require!(under_systemd, "the systemd driver", named "nobody else takes a cgroup away from the shim");
    let limit = serde_json::json!({ "limit": 32 << 20, "swap": 32 << 20 });
    let bundle = Bundle::asking(&["sleep", "2", ",", "alloc", "100"])
        .with(|c| c["linux"]["resources"]["memory"] = limit);
    let shim = Shim::start(bundle);
    let init = shim.launch();
    let cgroup = Cgroups::of(init).dir("").to_owned();
    let signal = |signal| kill(Pid::from_raw(shim.pid), signal).expect("signal the shim");
    signal(Signal::SIGSTOP);
    wait_for("the cgroup to go", || !cgroup.exists());
    signal(Signal::SIGCONT);
    shim.events.wait("exit", &shim.id);
    let topics = shim.events.topics(&shim.id);
    assert!(topics.ends_with(&["oom".to_owned(), "exit".to_owned()]), "{topics:?}");
}
