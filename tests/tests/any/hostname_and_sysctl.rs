//! Names and kernel parameters of the container's own namespaces.

use ampoule_tests::{Bundle, Container, ampoule_only};
use serde_json::json;

#[test]
fn the_hostname_is_the_configured_one() {
    let bundle = Bundle::asking(&["uname"]).with(|c| c["hostname"] = json!("a-name.of-its.own"));
    assert_eq!(Container::of(bundle).run().ok().answer()["hostname"], "a-name.of-its.own");
}

#[test]
fn the_domainname_is_the_configured_one() {
    ampoule_only!("runc knows domainname since 1.2");
    let bundle = Bundle::asking(&["uname"]).with(|c| c["domainname"] = json!("example.org"));
    assert_eq!(Container::of(bundle).run().ok().answer()["domainname"], "example.org");
}

#[test]
fn the_host_keeps_its_own_name() {
    let before = nix::unistd::gethostname().unwrap();
    let bundle = Bundle::asking(&["uname"]).with(|c| c["hostname"] = json!("imposter"));
    Container::of(bundle).run().ok();
    assert_eq!(nix::unistd::gethostname().unwrap(), before);
}

#[test]
fn a_hostname_without_a_uts_namespace_is_refused() {
    let before = nix::unistd::gethostname().unwrap();
    Container::of(Bundle::asking(&["uname"]).without_namespace("uts")).run().fails();
    assert_eq!(nix::unistd::gethostname().unwrap(), before);
}

#[test]
fn sysctls_of_the_ipc_network_and_uts_namespaces_are_set() {
    let files = [
        "/proc/sys/kernel/shmmni",
        "/proc/sys/kernel/msgmax",
        "/proc/sys/fs/mqueue/msg_max",
        "/proc/sys/net/ipv4/ip_unprivileged_port_start",
    ];
    let questions = files.map(|f| ["cat", f]).join(&",");
    let bundle = Bundle::asking(&questions).with(|c| {
        c["linux"]["sysctl"] = json!({
            "kernel.shmmni": "1234",
            "kernel.msgmax": "4321",
            "fs.mqueue.msg_max": "7",
            "net.ipv4.ip_unprivileged_port_start": "80",
        });
    });
    let answers = Container::of(bundle).run().ok().answers();
    assert_eq!(answers, ["1234\n", "4321\n", "7\n", "80\n"]);
}

#[test]
fn a_sysctl_name_may_be_written_with_slashes() {
    // sysctl(8): the separator that comes first is the separator, so a dot may be part of a name.
    let bundle = Bundle::asking(&["cat", "/proc/sys/net/ipv4/conf/lo/forwarding"])
        .with(|c| c["linux"]["sysctl"] = json!({ "net/ipv4/conf/lo/forwarding": "1" }));
    assert_eq!(Container::of(bundle).run().ok().text(), "1\n");
}

#[test]
fn a_sysctl_of_the_whole_host_is_refused() {
    for name in ["vm.swappiness", "kernel.panic", "fs.file-max", "kernel.core_pattern"] {
        let bundle = Bundle::asking(&["cwd"]).with(|c| c["linux"]["sysctl"] = json!({ name: "1" }));
        Container::of(bundle).run().fails().saying(name);
    }
}

#[test]
fn a_network_sysctl_in_the_hosts_network_is_refused() {
    let bundle = Bundle::asking(&["cwd"])
        .without_namespace("network")
        .with(|c| c["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "0" }));
    Container::of(bundle).run().fails().saying("net.ipv4.ip_forward");
}

#[test]
fn a_sysctl_cannot_climb_out_of_its_directory() {
    // CVE-2022-0811: a name or value that smuggles in another parameter.
    for name in ["net.ipv4/../../kernel/core_pattern", "net/../kernel/panic", "kernel.shm../panic"] {
        let bundle = Bundle::asking(&["cwd"]).with(|c| c["linux"]["sysctl"] = json!({ name: "1" }));
        Container::of(bundle).run().fails();
    }
}
