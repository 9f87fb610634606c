//! The image that the engines load: one static busybox, packed by `ampoule-bundle`.

use crate::{bundle_tool, install, on_path};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The image's name, as every engine understands it.
pub const IMAGE: &str = "localhost/box:1";

const APPLETS: [&str; 21] = [
    "sh", "cat", "cp", "grep", "dd", "echo", "httpd", "id", "ip", "kill", "ls", "mkdir", "mknod", "mount",
    "ps", "sleep", "stty", "touch", "true", "umount", "wget",
];

/// Packs the image into an archive in `dir`.
pub fn pack(dir: &Path) -> PathBuf {
    let tree = dir.join("box");
    for name in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
        fs::create_dir_all(tree.join(name)).expect("make the image's directories");
    }
    fs::set_permissions(tree.join("tmp"), PermissionsExt::from_mode(0o1777)).expect("open /tmp");
    install(&on_path(Path::new("busybox")).expect("a busybox"), &tree.join("bin/busybox"));
    for name in APPLETS {
        symlink("busybox", tree.join("bin").join(name)).expect("link an applet");
    }
    let users = "root:x:0:0:root:/:/bin/sh\nguest:x:1000:1000:guest:/:/bin/sh\n";
    fs::write(tree.join("etc/passwd"), users).expect("write the users");
    fs::write(tree.join("etc/group"), "root:x:0:\nguest:x:1000:\n").expect("write the groups");
    let archive = dir.join("box.tar");
    pack_tree(&["--cmd", "sh", "--env", "PATH=/bin", "--ref", IMAGE], &tree, &archive);
    archive
}

/// Packs any directory or file.
pub fn pack_tree(flags: &[&str], tree: &Path, archive: &Path) {
    let program = bundle_tool();
    let done = Command::new(&program).arg("pack").args(flags).arg(tree).arg(archive).status();
    let done = done.unwrap_or_else(|e| panic!("run {}: {e}", program.display()));
    assert!(done.success(), "pack {}", tree.display());
}
