//! `linux.intelRdt`: shares of cache and memory bandwidth, by the resctrl filesystem (config-linux.md#intelrdt).

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::draft::Draft;
use super::step::HostStep;
use crate::facts::{Facts, RESCTRL};
use crate::spec::{IntelRdt, Spec};

/// Directories of the filesystem's own.
const RESERVED: [&str; 5] = [".", "..", "info", "mon_data", "mon_groups"];

const AT: &str = "linux.intelRdt";

fn wants_filesystem(facts: &Facts) -> Result<()> {
    if facts.resctrl {
        return Ok(());
    }
    bail!(
        "{AT}: there is no resctrl filesystem; on a CPU with rdt_a: mount -t resctrl resctrl {RESCTRL} \
         (CONFIG_X86_CPU_RESCTRL)"
    )
}

/// Plans the group, before there is a process. Returns what moves the process into it, and has `delete` remove what
/// is the container's alone: a class of service with a name may serve others.
pub(super) fn intel_rdt(draft: &mut Draft<'_>) -> Result<Vec<HostStep>> {
    let Some(given) = &draft.spec.linux.intel_rdt else { return Ok(Vec::new()) };
    let class = &*given.clos_id;
    if RESERVED.contains(&class) || (class != "/" && class.contains(['/', '\0', '\n'])) {
        bail!("{AT}.closID: {class:?}, expected the name of a directory below {RESCTRL}, or / for itself");
    }
    wants_filesystem(draft.facts)?;
    // Where they contradict, the last counts: the spec has `schemata` overwrite the others.
    let text = [&given.l3_cache_schema, &given.mem_bw_schema].into_iter().chain(&given.schemata);
    let schemata: Vec<String> =
        text.flat_map(|text| text.lines()).map(str::to_owned).filter(|line| !line.is_empty()).collect();
    let own = class.is_empty();
    let (dir, monitor) = dirs(draft.id, given);
    draft.pre_clone.push(HostStep::MakeRdtGroup { dir: dir.clone(), schemata, shared: !own });
    if let Some(dir) = monitor {
        draft.pre_clone.push(HostStep::MakeRdtGroup {
            dir: dir.clone(),
            schemata: Vec::new(),
            shared: false,
        });
        draft.recorded.rdt_groups.push(dir);
    }
    draft.recorded.rdt_groups.extend(own.then_some(dir));
    Ok(join(draft))
}

/// Plans new schemata, for `update`; none are no steps.
pub(super) fn update(facts: &Facts, id: &str, spec: &Spec<'_>, schemata: &[String]) -> Result<Vec<HostStep>> {
    if schemata.is_empty() {
        return Ok(Vec::new());
    }
    wants_filesystem(facts)?;
    let Some(given) = &spec.linux.intel_rdt else {
        bail!("{AT}: the container was created without it, and so has no group whose share could change")
    };
    let (dir, _) = dirs(id, given);
    Ok(vec![HostStep::MakeRdtGroup { dir, schemata: schemata.to_vec(), shared: false }])
}

/// What moves a process into the groups that are there.
pub(super) fn join(draft: &Draft<'_>) -> Vec<HostStep> {
    let Some(given) = &draft.spec.linux.intel_rdt else { return Vec::new() };
    let (dir, monitor) = dirs(draft.id, given);
    [Some(dir), monitor].into_iter().flatten().map(|dir| HostStep::JoinRdtGroup { dir }).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn update_writes_the_new_schemata_to_the_containers_group() {
        let wanted = ["L3:0=f".to_owned(), "MB:0=50".to_owned()];
        let there = Facts { resctrl: true, ..Facts::default() };
        let plan = |facts: &Facts, config: &str, schemata: &[String]| {
            let spec = crate::spec::parse(config.as_bytes()).unwrap();
            let steps = update(facts, "web", &spec, schemata).map_err(|e| e.to_string())?;
            Ok::<_, String>(steps.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let own = r#"{"linux":{"intelRdt":{"enableMonitoring":true}}}"#;
        assert_eq!(
            plan(&there, own, &wanted).unwrap(),
            ["make resctrl group /sys/fs/resctrl/web with L3:0=f; MB:0=50"]
        );
        let class = r#"{"linux":{"intelRdt":{"closID":"gold"}}}"#;
        assert_eq!(
            plan(&there, class, &wanted[..1]).unwrap(),
            ["make resctrl group /sys/fs/resctrl/gold with L3:0=f"]
        );
        assert_eq!(plan(&Facts::default(), own, &[]).unwrap(), [""; 0]);
        assert!(plan(&Facts::default(), own, &wanted).unwrap_err().contains("no resctrl filesystem"));
        assert!(plan(&there, "{}", &wanted).unwrap_err().contains("created without it"));
    }
}
