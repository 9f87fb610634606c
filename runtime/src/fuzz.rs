//! For `tests/fuzz` alone: readers of what the kernel writes that are private otherwise.

use crate::facts::{Layout, Manager};
use crate::sys::rtnetlink::{self, Address};

/// The hierarchies that mountinfo and `/proc/self/cgroup` tell.
///
/// # Errors
/// A line that can't be read.
pub fn layout(mountinfo: &str, own: &str) -> anyhow::Result<Layout> {
    crate::facts::cgroups::parse(mountinfo, own, |_| Ok(vec!["memory".to_owned()]))
}

/// The manager of a user, by the map of the user namespace and `/proc/self/cgroup`.
pub fn manager(euid: u32, uid_map: &str, own: &str) -> Manager {
    crate::facts::manager(euid, uid_map, own)
}

/// The addresses of a device in what rtnetlink answers.
pub fn addresses(answer: &[u8], of: u32) -> Vec<Address> {
    let mut payloads = Vec::new();
    let _ = rtnetlink::collect(answer, &mut payloads);
    payloads.iter().filter_map(|payload| rtnetlink::address(payload, of)).collect()
}
