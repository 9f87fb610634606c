//! RLIMIT_FSIZE: what the caller has is an error of the verb that it stops, not its silent end.

use ampoule_tests::{Bundle, Container, Outcome, ampoule_only, field, ignore_signal};
use nix::sys::signal::Signal;
use serde_json::json;
use std::fs;
use std::process::Command;

/// A call that may write this many blocks of 512 bytes to a file.
fn limited(container: &Container, blocks: u32, args: &[&str]) -> Outcome {
    let call = container.command(args);
    let mut limited = Command::new("sh");
    limited.arg("-c").arg(format!("ulimit -f {blocks} && exec \"$0\" \"$@\""));
    limited.arg(call.get_program()).args(call.get_args());
    // Its output is in files, too; what is read of them is no longer than the limit.
    container.spawn(limited, "limited").finish()
}

#[test]
fn a_file_that_grows_too_large_is_an_error_and_nothing_is_left() {
    ampoule_only!("runc 1.1 dies of SIGXFSZ");
    // The record is longer than one block, and config.json, which is written last of all, than both.
    for (verb, blocks) in [("create", 1), ("run", 1), ("create", 4), ("run", 4)] {
        let bundle = Bundle::sleeping().with(|c| c["annotations"] = json!({ "long": "x".repeat(600) }));
        let bundle = bundle.with(|c| c["ignored"] = json!("x".repeat(4000)));
        let container = Container::of(bundle);
        let outcome = limited(&container, blocks, &container.args_for(verb, &[]));
        outcome.fails().saying("file too large");
        assert_eq!(container.leftovers(), [""; 0], "{verb}, {blocks} blocks");
    }
}

#[test]
fn so_is_one_of_a_verb_that_makes_no_container() {
    ampoule_only!("runc 1.1 dies of SIGXFSZ");
    let bundle = Bundle::sleeping();
    let container = Container::of(bundle);
    let dir = container.bundle.path().to_str().unwrap();
    limited(&container, 1, &["spec", "--bundle", dir]).fails().saying("file too large");
    let program = container.bundle.rootfs().join("bin/probe");
    let hook = json!([{ "path": program, "args": ["probe", "cwd"] }]);
    let bundle = Bundle::sleeping().with(|c| {
        c["hooks"] = json!({ "poststop": hook });
        c["annotations"] = json!({ "long": "x".repeat(600) });
    });
    let container = Container::of(bundle);
    container.launch();
    limited(&container, 1, &["delete", "--force", &container.id]).ok();
    assert_eq!(container.leftovers(), [""; 0]);
}

#[test]
fn the_program_has_the_signal_as_the_caller_had_it() {
    ampoule_only!("Go's runtime handles a signal that was ignored");
    for is_ignored in [false, true] {
        let container = Container::of(Bundle::asking(&["cat", "/proc/self/status"]));
        let mut run = container.command(&container.args_for("run", &[]));
        if is_ignored {
            ignore_signal(&mut run, Signal::SIGXFSZ);
        }
        let status = container.spawn(run, "run").finish().ok().text();
        let has =
            |set| u64::from_str_radix(&field(&status, set), 16).unwrap() >> (libc::SIGXFSZ - 1) & 1 == 1;
        assert_eq!((has("SigBlk"), has("SigIgn")), (false, is_ignored));
    }
    let container = Container::of(Bundle::asking(&["signals", "SIGXFSZ"]));
    let run = container.start_run();
    ampoule_tests::wait_for("the program", || {
        fs::read_to_string(container.bundle.beside("run.stdout")).is_ok_and(|text| text.contains("ready"))
    });
    run.signal(Signal::SIGXFSZ);
    assert!(run.finish().ok().stdout.contains("SIGXFSZ"));
}
