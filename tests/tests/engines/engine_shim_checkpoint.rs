//! containerd's checkpoints, through our own shim.

use ampoule_tests::criu::{WHY, works};
use ampoule_tests::engines::{NO_ENGINE, pack_tree};
use ampoule_tests::{Bundle, HostContainerd, RUNTIME_TYPE, ampoule_only, has_containerd, require, wait_for};

#[test]
fn a_container_is_saved_as_an_image_and_restored_from_it() {
    ampoule_only!("the shim that containerd finds runs ampoule, whatever is under test");
    require!(has_containerd(), "containerd", named NO_ENGINE);
    require!(works(), "CRIU", named WHY);
    let bundle = Bundle::sleeping();
    let containerd = HostContainerd::start();
    let (archive, name) = (bundle.beside("image.tar"), "localhost/probe:1");
    pack_tree(&["--cmd", "/bin/probe", "--ref", name], &bundle.rootfs(), &archive);
    containerd.ctr(&["image", "import", archive.to_str().unwrap()]).ok();
    // Not with --null-io: CRIU wants each stream to be of the kind that it was, and restore gives fifos.
    let run = ["run", "-d", "--runtime", RUNTIME_TYPE, name, "box", "/bin/probe", "count"];
    containerd.ctr(&run).ok();
    let saved = "localhost/saved:1";
    containerd.ctr(&["container", "checkpoint", "--task", "--rw", "--image", "box", saved]).ok();
    assert_eq!(containerd.status("box"), "RUNNING");
    end(&containerd);
    containerd.ctr(&["container", "rm", "box"]).ok();

    // Whether it waits for the end differs from one ctr to the next.
    let restore = containerd.call(&["container", "restore", "--live", "--rw", "box", saved]);
    wait_for("the restored container", || containerd.status("box") == "RUNNING");
    assert_eq!(containerd.ctr(&["task", "ps", "box"]).ok().stdout.lines().count(), 2);
    end(&containerd);
    restore.finish();
    containerd.ctr(&["container", "rm", "box"]).ok();
    wait_for("nothing to be left", || containerd.leftovers().is_empty());
}

fn end(containerd: &HostContainerd) {
    containerd.ctr(&["task", "kill", "-s", "KILL", "box"]).ok();
    wait_for("its end", || containerd.status("box") != "RUNNING");
    containerd.ctr(&["task", "rm", "box"]);
}
