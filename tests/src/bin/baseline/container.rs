//! The child's side: from the fresh namespaces to the program.

use std::ffi::CStr;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::{Mode, SFlag, makedev, mknod, stat};
use nix::unistd::{chdir, mkdir, pivot_root, sethostname, setsid, symlinkat};

use crate::{Laps, cgroup, must, sys};

const NOTHING: Option<&CStr> = None;

/// Turns the calling process into the container and runs the program in it. On v1 it enters `groups`, on v2 it was
/// born there.
pub(crate) fn play(root: &CStr, v2: bool, groups: &[String], program: &[&CStr], mut laps: Laps) -> ! {
    if !v2 {
        cgroup::enter(groups);
        laps.lap("c:enter");
    }
    must("setsid", setsid());
    must("sethostname", sethostname("baseline"));
    must("make / a slave", mount(NOTHING, c"/", NOTHING, MsFlags::MS_REC | MsFlags::MS_SLAVE, NOTHING));
    must("bind the rootfs", mount(Some(root), root, NOTHING, MsFlags::MS_BIND | MsFlags::MS_REC, NOTHING));
    must("chdir to the rootfs", chdir(root));
    laps.lap("c:ns");
    mounts(v2);
    if !v2 {
        show_groups(groups);
    }
    laps.lap("c:mounts");
    devices();
    laps.lap("c:dev");
    read_only_paths();
    masked_paths();
    laps.lap("c:mask");
    must("pivot_root", pivot_root(c".", c"."));
    must("umount the old root", umount2(c".", MntFlags::MNT_DETACH));
    must("chdir to /", chdir(c"/"));
    let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    must("make / read-only", mount(NOTHING, c"/", NOTHING, read_only, NOTHING));
    laps.lap("c:pivot");
    must("setrlimit", setrlimit(Resource::RLIMIT_NOFILE, 1024, 1024));
    must("no_new_privs", nix::sys::prctl::set_no_new_privs());
    must("capabilities", sys::keep_default_capabilities());
    laps.lap("c:creds");
    let errno = nix::unistd::execv(program[0], program).unwrap_err();
    eprintln!("baseline: exec {}: {errno}", program[0].to_string_lossy());
    std::process::exit(127)
}

fn mounts(v2: bool) {
    let safe = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NODEV;
    let tty = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let dev = MsFlags::MS_NOSUID | MsFlags::MS_STRICTATIME;
    let pts = c"newinstance,ptmxmode=0666,mode=0620,gid=5";
    mount_new(c"proc", c"proc", c"proc", safe, None);
    mount_new(c"tmpfs", c"dev", c"tmpfs", dev, Some(c"mode=755,size=65536k"));
    mount_new(c"devpts", c"dev/pts", c"devpts", tty, Some(pts));
    mount_new(c"shm", c"dev/shm", c"tmpfs", safe, Some(c"mode=1777,size=65536k"));
    mount_new(c"mqueue", c"dev/mqueue", c"mqueue", safe, None);
    mount_new(c"sysfs", c"sys", c"sysfs", safe | MsFlags::MS_RDONLY, None);
    if v2 {
        mount_new(c"cgroup", c"sys/fs/cgroup", c"cgroup2", safe | MsFlags::MS_RDONLY, None);
    }
}

/// The config's cgroup mount, which on v1 is a directory with each hierarchy's own group in it, read-only.
fn show_groups(groups: &[String]) {
    let safe = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NODEV;
    let top = c"sys/fs/cgroup";
    mount_new(c"cgroup", top, c"tmpfs", safe, Some(c"mode=755"));
    for group in groups {
        let hierarchy = group.split('/').nth(4).unwrap_or_default();
        let target = format!("sys/fs/cgroup/{hierarchy}");
        must("mkdir a hierarchy", mkdir(target.as_str(), Mode::from_bits_truncate(0o755)));
        let seal = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | safe;
        must(
            "bind a group",
            mount(Some(group.as_str()), target.as_str(), NOTHING, MsFlags::MS_BIND, NOTHING),
        );
        must("make a group read-only", mount(NOTHING, target.as_str(), NOTHING, seal, NOTHING));
    }
    let seal = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | safe;
    must("make the hierarchies read-only", mount(NOTHING, top, NOTHING, seal, NOTHING));
}

fn mount_new(source: &CStr, target: &CStr, fstype: &CStr, flags: MsFlags, data: Option<&CStr>) {
    match mkdir(target, Mode::from_bits_truncate(0o755)) {
        Err(Errno::EEXIST) => {}
        made => must("mkdir a mount point", made),
    }
    match mount(Some(source), target, Some(fstype), flags, data) {
        Err(Errno::ENOENT) => {} // a kernel without cgroups has no /sys/fs/cgroup
        mounted => must("mount", mounted),
    }
}

fn devices() {
    let nodes = [
        (c"dev/null", 1, 3),
        (c"dev/zero", 1, 5),
        (c"dev/full", 1, 7),
        (c"dev/tty", 5, 0),
        (c"dev/random", 1, 8),
        (c"dev/urandom", 1, 9),
    ];
    for (path, major, minor) in nodes {
        let mode = Mode::from_bits_truncate(0o666);
        must("mknod", mknod(path, SFlag::S_IFCHR, mode, makedev(major, minor)));
    }
    let links = [
        (c"/proc/self/fd", c"dev/fd"),
        (c"/proc/self/fd/0", c"dev/stdin"),
        (c"/proc/self/fd/1", c"dev/stdout"),
        (c"/proc/self/fd/2", c"dev/stderr"),
        (c"pts/ptmx", c"dev/ptmx"),
    ];
    for (target, path) in links {
        must("symlink", symlinkat(target, nix::fcntl::AT_FDCWD, path));
    }
}

fn read_only_paths() {
    let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
    let seal = MsFlags::MS_BIND
        | MsFlags::MS_REMOUNT
        | MsFlags::MS_RDONLY
        | MsFlags::MS_NOSUID
        | MsFlags::MS_NOEXEC
        | MsFlags::MS_NODEV;
    for path in [c"proc/bus", c"proc/fs", c"proc/irq", c"proc/sys", c"proc/sysrq-trigger"] {
        if mount(Some(path), path, NOTHING, bind, NOTHING).is_ok() {
            must("make a path read-only", mount(NOTHING, path, NOTHING, seal, NOTHING));
        }
    }
}

fn masked_paths() {
    let paths = [
        c"proc/acpi",
        c"proc/asound",
        c"proc/kcore",
        c"proc/keys",
        c"proc/latency_stats",
        c"proc/timer_list",
        c"proc/timer_stats",
        c"proc/sched_debug",
        c"proc/scsi",
        c"sys/firmware",
    ];
    for path in paths {
        let Ok(found) = stat(path) else { continue };
        let masked = if SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFDIR {
            mount(Some(c"tmpfs"), path, Some(c"tmpfs"), MsFlags::MS_RDONLY, NOTHING)
        } else {
            mount(Some(c"/dev/null"), path, NOTHING, MsFlags::MS_BIND, NOTHING)
        };
        must("mask a path", masked);
    }
}
