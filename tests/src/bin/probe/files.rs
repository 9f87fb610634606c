//! Commands that look at files, and that make and change them.

use crate::{Answer, errno};
use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, makedev};
use serde_json::json;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};

/// More than any file that a test asks for; a device that never ends must not fill the memory.
const MOST: u64 = 1 << 20;

pub(crate) fn cat(args: &[String]) -> Answer {
    let mut bytes = Vec::new();
    File::open(&args[0]).map_err(errno)?.take(MOST).read_to_end(&mut bytes).map_err(errno)?;
    Ok(json!(String::from_utf8_lossy(&bytes)))
}

pub(crate) fn ls(args: &[String]) -> Answer {
    let mut names = Vec::new();
    for entry in fs::read_dir(&args[0]).map_err(errno)? {
        names.push(entry.map_err(errno)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(json!(names))
}

pub(crate) fn stat(args: &[String]) -> Answer {
    describe(&fs::metadata(&args[0]).map_err(errno)?)
}

pub(crate) fn lstat(args: &[String]) -> Answer {
    describe(&fs::symlink_metadata(&args[0]).map_err(errno)?)
}

fn describe(meta: &fs::Metadata) -> Answer {
    let kind = meta.file_type();
    let name = match () {
        () if kind.is_dir() => "dir",
        () if kind.is_symlink() => "symlink",
        () if kind.is_char_device() => "char",
        () if kind.is_block_device() => "block",
        () if kind.is_fifo() => "fifo",
        () if kind.is_socket() => "socket",
        () => "file",
    };
    let rdev = meta.rdev();
    Ok(json!({
        "type": name,
        "mode": format!("{:o}", meta.mode() & 0o7777),
        "uid": meta.uid(),
        "gid": meta.gid(),
        "rdev": format!("{}:{}", nix::sys::stat::major(rdev), nix::sys::stat::minor(rdev)),
        "dev": meta.dev(),
        "ino": meta.ino(),
        "size": meta.size(),
    }))
}

pub(crate) fn readlink(args: &[String]) -> Answer {
    Ok(json!(fs::read_link(&args[0]).map_err(errno)?))
}

/// `open PATH r|w|rw`, without creating; a device is opened without waiting for its other end.
pub(crate) fn open(args: &[String]) -> Answer {
    OpenOptions::new()
        .read(args[1].contains('r'))
        .write(args[1].contains('w'))
        .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY)
        .open(&args[0])
        .map_err(errno)?;
    Ok(json!("ok"))
}

/// `write PATH TEXT`, creating the file when it is missing.
pub(crate) fn write(args: &[String]) -> Answer {
    let mut file = OpenOptions::new().create(true).append(true).open(&args[0]).map_err(errno)?;
    file.write_all(args[1].as_bytes()).map_err(errno)?;
    Ok(json!("ok"))
}

pub(crate) fn mkdir(args: &[String]) -> Answer {
    fs::create_dir(&args[0]).map_err(errno)?;
    Ok(json!("ok"))
}

/// `mknod PATH c|b MAJOR MINOR`.
pub(crate) fn mknod(args: &[String]) -> Answer {
    let kind = if args[1] == "b" { SFlag::S_IFBLK } else { SFlag::S_IFCHR };
    let number = |text: &String| text.parse::<u64>().map_err(|_| Errno::EINVAL);
    let device = makedev(number(&args[2])?, number(&args[3])?);
    nix::sys::stat::mknod(args[0].as_str(), kind, Mode::from_bits_truncate(0o666), device)?;
    Ok(json!("ok"))
}

/// `chmod PATH MODE`, the mode in octal.
pub(crate) fn chmod(args: &[String]) -> Answer {
    let mode = u32::from_str_radix(&args[1], 8).map_err(|_| Errno::EINVAL)?;
    fs::set_permissions(&args[0], fs::Permissions::from_mode(mode)).map_err(errno)?;
    Ok(json!("ok"))
}

/// `exec PATH`: runs a copy of the probe with `exit 7`, and reports its exit code.
pub(crate) fn exec(args: &[String]) -> Answer {
    let status = std::process::Command::new(&args[0]).args(["exit", "7"]).status().map_err(errno)?;
    Ok(json!(status.code()))
}
