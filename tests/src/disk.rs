//! Block devices for tests of limits on I/O, by their numbers.

use crate::{is_root, place};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Major and minor number of a device.
type DeviceNumber = (u64, u64);

/// A whole disk of the host.
pub fn any_disk() -> DeviceNumber {
    let disks = fs::read_dir("/sys/block").expect("list the disks").flatten();
    let numbers = disks.filter_map(|d| fs::read_to_string(d.path().join("dev")).ok());
    parse(&numbers.min().expect("a disk"))
}

/// The whole disk that a file is on; `None` for one on a file system without a disk.
pub fn disk_of(file: &Path) -> Option<DeviceNumber> {
    let device = fs::metadata(file).unwrap_or_else(|e| panic!("look at {}: {e}", file.display())).dev();
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let mut block = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    if block.join("partition").exists() {
        block.pop();
    }
    Some(parse(&fs::read_to_string(block.join("dev")).ok()?))
}

/// A disk that nobody else uses, where work is done by weight (BFQ): it forgets what is written to it. Only the test
/// machine has one, for root.
pub fn null_disk() -> Option<DeviceNumber> {
    let disk = Path::new("/sys/block/nullb0");
    let scheduler = fs::read_to_string(disk.join("queue/scheduler")).ok()?;
    let can_use = is_root() && place() != "host" && scheduler.contains("[bfq]");
    can_use.then(|| parse(&fs::read_to_string(disk.join("dev")).expect("read the disk's number")))
}

fn parse(text: &str) -> DeviceNumber {
    let (major, minor) = text.trim().split_once(':').expect("MAJOR:MINOR");
    (major.parse().expect("a number"), minor.parse().expect("a number"))
}
