//! `linux.netDevices`: devices of the host's that move into the container (config-linux.md#network-devices).

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use super::draft::Draft;
use super::step::{FdSlot, HostStep, HostSync, LifecycleStep};
use crate::spec::NamespaceKind::Network;

/// IFNAMSIZ counts the NUL byte, too.
const LONGEST: usize = 15;

/// What the kernel takes as a name (net/core/dev.c, dev_valid_name); a new one may have one `%d`.
fn check(name: &str, at: &str) -> Result<()> {
    let bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c == '\0';
    if name.is_empty() || name.len() > LONGEST || name == "." || name == ".." || name.contains(bad) {
        bail!("{at}: {name:?}, expected a name of at most {LONGEST} bytes without space, / or :");
    }
    if name.contains('%') && (name.matches('%').count() > 1 || !name.contains("%d")) {
        bail!("{at}: {name:?}, expected no % but that of one %d, which stands for the first free number");
    }
    Ok(())
}

/// Plans the moves: into a namespace that is joined at once, into a new one when its process is there, which waits.
/// `joined` is where the namespace's handle is. Returns what the host does then.
pub(super) fn devices(draft: &mut Draft<'_>, joined: Option<FdSlot>) -> Result<Vec<HostStep>> {
    let Some(devices) = &draft.spec.linux.net_devices else { return Ok(Vec::new()) };
    let (mut moves, mut names) = (Vec::new(), BTreeSet::new());
    for (device, wanted) in &devices.0 {
        let at = format!("linux.netDevices.{device}");
        check(device, &at)?;
        let name = Some(wanted.name.to_string()).filter(|name| !name.is_empty());
        if let Some(name) = &name {
            check(name, &format!("{at}.name"))?;
        }
        let new = name.clone().unwrap_or_else(|| device.to_string());
        if !new.contains('%') && !names.insert(new.clone()) {
            bail!("{at}.name: {new:?} is there twice");
        }
        moves.push(HostStep::MoveNetDevice { device: device.to_string(), name, namespace: joined });
    }
    if moves.is_empty() {
        return Ok(moves);
    }
    if !draft.namespaces.has(Network) {
        bail!("linux.netDevices: needs a network namespace in linux.namespaces to move them into");
    }
    if draft.facts.rootless {
        bail!("linux.netDevices: moving the host's devices takes root's rights over its network");
    }
    if joined.is_some() {
        draft.pre_clone.append(&mut moves);
        return Ok(Vec::new());
    }
    moves.push(HostStep::Send { point: HostSync::NetDevicesMoved });
    Ok(moves)
}

/// Before anything is said about the devices, by a sysctl or by a hook.
pub(super) fn wait(draft: &mut Draft<'_>, moves: &[HostStep]) {
    if !moves.is_empty() {
        draft.step(LifecycleStep::Wait { point: HostSync::NetDevicesMoved });
    }
}
