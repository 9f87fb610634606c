//! Lazy migration: the memory follows when it is used.

use ampoule_tests::criu::{OutputLines, WHY, works};
use ampoule_tests::{Bundle, Call, Container, require, wait_for};
use std::fs;
use std::net::TcpListener;
use std::process::{Command, Stdio};

fn can_be_lazy() -> bool {
    let mut check = Command::new("criu");
    check.args(["check", "--feature", "uffd-noncoop"]).stdout(Stdio::null()).stderr(Stdio::null());
    check.status().is_ok_and(|status| status.success())
}

#[test]
fn memory_follows_over_the_network_when_it_is_used() {
    require!(works() && can_be_lazy(), "CRIU and userfaultfd", named WHY);
    let container = Container::of(Bundle::asking(&["alloc", "4", ",", "count"]).writable());
    let before = container.run_piped();
    before.wait(3);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let images = container.images();
    let images = images.to_str().unwrap();
    let server = format!("127.0.0.1:{port}");
    let args = ["--lazy-pages", "--page-server", &server, "--status-fd", "1", "--image-path", images];
    let command = container.command(&[&["checkpoint"], &args[..], &[&container.id]].concat());
    let save = container.spawn(command, "save");
    wait_for("the pages to be served", || save.stdout() == "\0");

    let mut pages = Command::new("criu");
    let port = port.to_string();
    pages.args(["lazy-pages", "--page-server", "--address", "127.0.0.1", "--port", &port, "-D", images]);
    pages.stdin(Stdio::null());
    let pages = Call::start(pages, container.bundle.beside("pages"));
    wait_for("the page daemon", || fs::exists(format!("{images}/lazy-pages.socket")).unwrap());

    // Another one, for the first is there until its last page is.
    let copy = Container::of(Bundle::asking(&["alloc", "4", ",", "count"]).writable());
    copy.bundle.write();
    let flags = ["--detach", "--lazy-pages", "--image-path", images, "--work-path", images];
    let (restored, after) = copy.restore_with(&flags);
    restored.ok();
    let after = OutputLines::numbers(&after.wait(3));
    pages.finish().ok();
    save.finish().ok();
    let before = before.all();
    assert_eq!(after[0], before.last().unwrap().parse::<u64>().unwrap() + 1, "{before:?} {after:?}");
    assert_eq!(container.status(), "none");
    assert_eq!(copy.status(), "running");
}
