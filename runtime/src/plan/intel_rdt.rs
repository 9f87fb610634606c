//! `linux.intelRdt`: shares of cache and memory bandwidth, by the resctrl filesystem (config-linux.md#intelrdt).

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::Draft;
use super::step::Outside;
use crate::facts::RESCTRL;
use crate::spec::IntelRdt;

/// Directories of the filesystem's own.
const RESERVED: [&str; 5] = [".", "..", "info", "mon_data", "mon_groups"];

/// Plans the group, before there is a process. Returns what moves the process into it, and has `delete` remove what
/// is the container's alone: a class of service with a name may serve others.
pub(super) fn intel_rdt(draft: &mut Draft<'_>) -> Result<Vec<Outside>> {
    const AT: &str = "linux.intelRdt";
    let Some(given) = &draft.spec.linux.intel_rdt else { return Ok(Vec::new()) };
    let class = &*given.clos_id;
    if RESERVED.contains(&class) || (class != "/" && class.contains(['/', '\0', '\n'])) {
        bail!("{AT}.closID: {class:?}, expected the name of a directory below {RESCTRL}, or / for itself");
    }
    if !draft.facts.resctrl {
        bail!(
            "{AT}: there is no resctrl filesystem; on a CPU with rdt_a: mount -t resctrl resctrl {RESCTRL} \
             (CONFIG_X86_CPU_RESCTRL)"
        );
    }
    // Where they contradict, the last counts: the spec has `schemata` overwrite the others.
    let text = [&given.l3_cache_schema, &given.mem_bw_schema].into_iter().chain(&given.schemata);
    let schemata: Vec<String> =
        text.flat_map(|text| text.lines()).map(str::to_owned).filter(|line| !line.is_empty()).collect();
    let own = class.is_empty();
    let (dir, monitor) = dirs(draft.id, given);
    draft.before.push(Outside::RdtGroup { dir: dir.clone(), schemata, shared: !own });
    if let Some(dir) = monitor {
        draft.before.push(Outside::RdtGroup { dir: dir.clone(), schemata: Vec::new(), shared: false });
        draft.rdt_groups.push(dir);
    }
    draft.rdt_groups.extend(Some(dir).filter(|_| own));
    Ok(enter(draft))
}

/// What moves a process into the groups that are there.
pub(super) fn enter(draft: &Draft<'_>) -> Vec<Outside> {
    let Some(given) = &draft.spec.linux.intel_rdt else { return Vec::new() };
    let (dir, monitor) = dirs(draft.id, given);
    [Some(dir), monitor].into_iter().flatten().map(|dir| Outside::EnterRdtGroup { dir }).collect()
}

/// The container's group, and the one in it that is only for monitoring.
fn dirs(id: &str, given: &IntelRdt<'_>) -> (PathBuf, Option<PathBuf>) {
    let name = match &*given.clos_id {
        "" => id,
        class => class.trim_matches('/'),
    };
    let top = Path::new(RESCTRL);
    let dir = if name.is_empty() { top.to_owned() } else { top.join(name) };
    let monitor = given.enable_monitoring.then(|| dir.join("mon_groups").join(id));
    (dir, monitor)
}
