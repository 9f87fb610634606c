//! Mounts that show other owners than the filesystem has (config.md#mounts, `uidMappings` and `gidMappings`).

use anyhow::{Result, bail};

use super::draft::Draft;
use super::namespaces::ranges;
use super::step::{FdSlot, HostStep, IdMap, IdRange};
use crate::spec::{Mount, NamespaceKind};

/// The map that a mount has, if it has one. `recursive`: what its options `idmap` (false) and `ridmap` (true) say;
/// without either, mappings alone mean `idmap`, as runc has it.
pub(super) fn of_mount(
    draft: &mut Draft<'_>,
    mount: &Mount<'_>,
    recursive: Option<bool>,
    bind: bool,
    at: &str,
) -> Result<Option<IdMap>> {
    let (uids, gids) = (ranges(&mount.uid_mappings), ranges(&mount.gid_mappings));
    let given = !uids.is_empty() || !gids.is_empty();
    if !given && recursive.is_none() {
        return Ok(None);
    }
    let what = if given { "uidMappings" } else { "options" };
    if !bind {
        bail!("{at}.{what}: only bind mounts can map ids");
    }
    if draft.facts.rootless {
        bail!("{at}.{what}: mapping a mount's ids takes root's rights over its filesystem");
    }
    let slot = match given {
        true => own(draft, uids, gids, at)?,
        false => the_containers(draft, at)?,
    };
    Ok(Some(IdMap { slot, recursive: recursive.unwrap_or_default() }))
}

fn own(draft: &mut Draft<'_>, uids: Vec<IdRange>, gids: Vec<IdRange>, at: &str) -> Result<FdSlot> {
    for (name, ranges) in [("uidMappings", &uids), ("gidMappings", &gids)] {
        if ranges.is_empty() {
            bail!("{at}.{name}: missing; a map of ids needs users and groups");
        }
        super::namespaces::check_ranges(ranges, &format!("{at}.{name}"))?;
    }
    Ok(namespace(draft, uids, gids))
}

/// The map of the container's user namespace. (It can't lend the namespace itself, which isn't there yet.)
fn the_containers(draft: &mut Draft<'_>, at: &str) -> Result<FdSlot> {
    if let Some((_, slot)) = draft.spawn.join.iter().find(|(kind, _)| *kind == NamespaceKind::User) {
        return Ok(*slot);
    }
    if !draft.namespaces.makes(NamespaceKind::User) {
        bail!("{at}.options: idmap needs a mapping: uidMappings and gidMappings here, or a user namespace's");
    }
    let (uids, gids) = (draft.namespaces.uids.clone(), draft.namespaces.gids.clone());
    Ok(namespace(draft, uids, gids))
}

/// One for each distinct map.
fn namespace(draft: &mut Draft<'_>, uids: Vec<IdRange>, gids: Vec<IdRange>) -> FdSlot {
    let map = (uids, gids);
    if let Some(slot) = draft.id_maps.get(&map) {
        return *slot;
    }
    let slot = draft.slot();
    draft.pre_clone.push(HostStep::CreateUserNamespace { uids: map.0.clone(), gids: map.1.clone(), slot });
    draft.id_maps.insert(map, slot);
    slot
}
