use super::cgroups::parse;
use super::*;

const MOUNTINFO: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
36 31 0:33 /docker/x /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
37 31 0:34 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
38 31 0:34 / /mnt/again rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/my\\040cgroup rw,relatime - cgroup2 cgroup2 rw,nsdelegate
42 31 0:39 / /sys/fs/cgroup/gone rw,relatime - cgroup cgroup rw,freezer
";
const OWN: &str = "4:memory:/docker/x/y\n2:cpu,cpuacct:/a\n1:name=systemd:/user.slice\n0::/user.slice/u\n";

#[test]
fn each_controller_is_found_in_its_tree_with_our_own_place_in_it() {
    let layout = parse(MOUNTINFO, OWN, |_| Ok(vec!["hugetlb".into()])).unwrap();
    let tree = |version, mount: &str, controllers: &[&str], own: &str| Hierarchy {
        own: own.into(),
        ..Hierarchy::new(version, mount, controllers)
    };
    assert_eq!(
        layout.hierarchies,
        [
            tree(Version::V1, "/sys/fs/cgroup/cpu,cpuacct", &["cpu", "cpuacct"], "/a"),
            tree(Version::V1, "/sys/fs/cgroup/memory", &["memory"], "/y"),
            tree(Version::V1, "/sys/fs/cgroup/systemd", &["name=systemd"], "/user.slice"),
            tree(Version::V2, "/sys/fs/my cgroup", &["hugetlb"], "/user.slice/u"),
        ]
    );
}

#[test]
fn a_users_manager_is_found_above_us_or_at_its_usual_place() {
    let whole = "         0          0 4294967295\n";
    let manager = |euid, map, own: &str| {
        let found = super::manager(euid, map, &format!("0::{own}\n"));
        (found.user, found.root)
    };
    assert_eq!(manager(0, whole, "/user.slice/user-0.slice/session-1.scope"), (false, "/".into()));
    let usual = (true, "/user.slice/user-7.slice/user@7.service".to_owned());
    assert_eq!(manager(7, whole, "/user.slice/user-7.slice/session-1.scope"), usual);
    assert_eq!(manager(0, "0 7 1\n1 100000 65536\n", "/"), usual, "root of a user namespace");
    let odd = (true, "/c/user@7.service".to_owned());
    assert_eq!(manager(7, whole, "/c/user@7.service/app.slice/x.scope"), odd);
}

#[test]
fn what_is_absent_is_empty_and_what_cannot_be_read_is_an_error() {
    assert_eq!(parse("", "", |_| Ok(Vec::new())).unwrap(), Layout::default());
    assert_eq!(text("/no/such/file").unwrap(), "");
    assert!(text("/proc/self/mem").unwrap_err().to_string().contains("/proc/self/mem"));
    assert!(parse(MOUNTINFO, OWN, |_| anyhow::bail!("no")).is_err());
}

#[test]
fn this_host_has_its_facts() {
    let facts = gather(None).unwrap();
    assert_eq!(facts.euid, nix::unistd::geteuid().as_raw());
    for tree in &facts.cgroups.hierarchies {
        assert!(tree.own.starts_with('/'), "{tree:?}");
        assert!(tree.mount.is_dir(), "{tree:?}");
    }
}
