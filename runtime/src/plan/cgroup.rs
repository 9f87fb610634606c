//! `linux.cgroupsPath` and `linux.resources` as steps.
//!
//! There is no mode here for v1, v2 or both. Each controller lives in one hierarchy of the host, and that hierarchy's
//! version picks the translator; what it writes lands in the container's directory there.

use std::path::{Path, PathBuf};

use ::cgroup::layout::{Hierarchy, Layout, Version};
use anyhow::{Context, Result, bail};

use super::devices;
use super::step::{HostStep, IfMissing};
use super::systemd::Scope;
use crate::facts::Facts;
use crate::spec::Resources;

mod join;
mod shared;
mod v1;
mod v2;

pub(super) use join::{chown, join, refuse_frozen};

/// What a container's cgroups take.
#[derive(Debug, Default)]
pub struct Cgroups {
    /// The container's directory in every hierarchy, in the layout's order.
    pub dirs: Vec<PathBuf>,
    /// Making and limiting them.
    pub pre_clone: Vec<HostStep>,
    /// The v2 directory, to be cloned into.
    pub into: Option<PathBuf>,
    /// The v1 directories, which a process can only move into.
    pub enter: Vec<PathBuf>,
    /// The unit that holds them.
    pub scope: Option<Scope>,
    /// What may wait until there is a process, and is done while that one makes its mounts.
    pub post_clone: Vec<HostStep>,
    /// What was left out because the spec says to ignore it.
    pub warnings: Vec<String>,
}

/// One row of the table: a controller's name in each version, and who speaks for it there.
struct Controller {
    v1: Option<(&'static str, Translate)>,
    v2: Option<(&'static str, Translate)>,
}

type Translate = fn(&Resources<'_>, &mut Sheet) -> Result<()>;

/// In the order in which runc sets them.
const CONTROLLERS: [Controller; 9] = [
    Controller { v1: Some(("cpuset", v1::cpuset)), v2: Some(("cpuset", v2::cpuset)) },
    Controller { v1: Some(("memory", v1::memory)), v2: Some(("memory", v2::memory)) },
    Controller { v1: Some(("cpu", v1::cpu)), v2: Some(("cpu", v2::cpu)) },
    Controller { v1: Some(("pids", shared::pids)), v2: Some(("pids", shared::pids)) },
    Controller { v1: Some(("blkio", v1::block_io)), v2: Some(("io", v2::block_io)) },
    Controller { v1: Some(("hugetlb", v1::hugepages)), v2: Some(("hugetlb", v2::hugepages)) },
    Controller { v1: Some(("net_cls", v1::class_id)), v2: None },
    Controller { v1: Some(("net_prio", v1::priorities)), v2: None },
    Controller { v1: Some(("rdma", shared::rdma)), v2: Some(("rdma", shared::rdma)) },
];

/// Where a translator writes: one directory, and the steps so far.
struct Sheet {
    dir: PathBuf,
    steps: Vec<HostStep>,
    warnings: Vec<String>,
}

impl Sheet {
    fn new(dir: &Path) -> Self {
        Sheet { dir: dir.to_owned(), steps: Vec::new(), warnings: Vec::new() }
    }

    fn write(&mut self, property: &str, file: &str, value: impl ToString) {
        self.write_or(property, file, vec![value.to_string()], IfMissing::Fail);
    }

    fn write_or(&mut self, property: &str, file: &str, values: Vec<String>, missing: IfMissing) {
        if values.is_empty() {
            return;
        }
        let (dir, file) = (self.dir.clone(), file.to_owned());
        self.steps.push(HostStep::WriteCgroup {
            dir,
            file,
            values,
            property: format!("linux.resources.{property}"),
            missing,
        });
    }

    fn first_property(&self) -> Option<&str> {
        self.steps.iter().find_map(|s| match s {
            HostStep::WriteCgroup { property, .. } => Some(property.as_str()),
            _ => None,
        })
    }
}

/// Plans the container's cgroups. `id` names the cgroup when the document doesn't.
///
/// # Errors
/// Names the JSON path of a limit that no hierarchy here can hold, or whose value can't be.
pub fn cgroups(facts: &Facts, cgroups_path: &str, id: &str, resources: &Resources<'_>) -> Result<Cgroups> {
    let trees = facts.cgroups.hierarchies.iter();
    let dirs = trees.map(|tree| dir(tree, cgroups_path, id)).collect::<Result<_>>()?;
    of_dirs(facts, dirs, resources)
}

/// The same with the directories given, one for each hierarchy.
pub(super) fn of_dirs(facts: &Facts, dirs: Vec<PathBuf>, resources: &Resources<'_>) -> Result<Cgroups> {
    let layout = &facts.cgroups;
    let mut plan = Cgroups::default();
    for (tree, dir) in layout.hierarchies.iter().zip(dirs) {
        match tree.version {
            Version::V1 => plan.enter.push(dir.clone()),
            Version::V2 => plan.into = Some(dir.clone()),
        }
        plan.dirs.push(dir);
    }
    let mut needed = vec![Vec::new(); plan.dirs.len()];
    let mut limits = limits(layout, &mut plan, &mut needed, resources)?;
    if plan.dirs.is_empty() {
        plan.warnings.push(match facts.undelegated.hierarchies.is_empty() {
            true => "no cgroup hierarchy here: nothing is limited".to_owned(),
            false => {
                "no cgroup here may be written to: nothing is limited, and its processes can't be listed; \
                      run it in a delegated one, such as `systemd-run --user --scope -p Delegate=yes` makes"
                    .to_owned()
            }
        });
    }
    // What means nothing is refused to everybody. Else an ordinary user's devices are his own: he may neither make
    // nodes nor load programs.
    let rules = devices::rules(&resources.devices)?;
    if !facts.rootless {
        limits.extend(device_lines(layout, &mut plan, resources, &rules)?);
    }
    for ((tree, dir), mut needed) in layout.hierarchies.iter().zip(&plan.dirs).zip(needed) {
        needed.sort();
        needed.dedup();
        plan.pre_clone.push(HostStep::MakeCgroup { dir: dir.clone() });
        if tree.version == Version::V2 && !tree.controllers.is_empty() {
            plan.pre_clone.extend(parents(tree, dir).into_iter().map(|dir| HostStep::EnableControllers {
                dir,
                controllers: tree.controllers.clone(),
                required: needed.clone(),
            }));
        }
    }
    plan.pre_clone.extend(limits);
    Ok(plan)
}

/// Plans other limits for cgroups that are there; devices stay as they are. `dirs` are the container's, of any of the
/// layout's hierarchies; `total` is its present limit of memory and swap together, where v1 has one.
///
/// # Errors
/// As those of [`cgroups`].
pub fn update(
    layout: &Layout,
    dirs: &[PathBuf],
    resources: &Resources<'_>,
    total: Option<i64>,
) -> Result<(Vec<HostStep>, Vec<String>)> {
    // The record holds a directory in each hierarchy, if not in their present order.
    let home = |tree: &Hierarchy| {
        let below = dirs.iter().filter(|dir| dir.starts_with(&tree.mount));
        below.min_by_key(|dir| dir.components().count() - tree.mount.components().count()).cloned()
    };
    let ours = layout.hierarchies.iter().filter_map(|tree| Some((tree.clone(), home(tree)?)));
    let (hierarchies, dirs): (Vec<_>, Vec<_>) = ours.unzip();
    let mut plan = Cgroups { dirs, ..Cgroups::default() };
    let mut needed = vec![Vec::new(); plan.dirs.len()];
    let mut steps = limits(&Layout { hierarchies }, &mut plan, &mut needed, resources)?;
    // The kernel keeps limit <= memory+swap at every moment, and a translator writes for a group that has no limits
    // yet. Where the latter grows, it goes first.
    let find = |file: &str| {
        steps.iter().position(|step| matches!(step, HostStep::WriteCgroup { file: f, .. } if f == file))
    };
    if let (Some(limit), Some(both)) = (find("memory.limit_in_bytes"), find("memory.memsw.limit_in_bytes"))
        && resources.memory.swap.zip(total).is_some_and(|(new, old)| new > old)
        && limit < both
    {
        steps.swap(limit, both);
    }
    Ok((steps, plan.warnings))
}

/// Every limit; notes in `needed` which controllers of each hierarchy they can't do without.
fn limits(
    layout: &Layout,
    plan: &mut Cgroups,
    needed: &mut [Vec<String>],
    resources: &Resources<'_>,
) -> Result<Vec<HostStep>> {
    let mut steps = Vec::new();
    for controller in &CONTROLLERS {
        let home = layout.hierarchies.iter().enumerate().find_map(|(i, tree)| {
            let (name, translate) =
                if tree.version == Version::V1 { controller.v1? } else { controller.v2? };
            tree.controllers.iter().any(|c| c == name).then_some((i, name, translate))
        });
        let Some((i, name, translate)) = home else {
            refuse_homeless(controller, resources)?;
            continue;
        };
        let mut sheet = Sheet::new(&plan.dirs[i]);
        translate(resources, &mut sheet)?;
        if sheet.first_property().is_some() {
            needed[i].push(name.to_owned());
        }
        plan.warnings.append(&mut sheet.warnings);
        steps.append(&mut sheet.steps);
    }
    steps.extend(unified(layout, plan, needed, resources)?);
    Ok(steps)
}

/// No hierarchy has the controller: fine unless something asks for it. v1's translators know every property.
fn refuse_homeless(controller: &Controller, resources: &Resources<'_>) -> Result<()> {
    let Some((name, translate)) = controller.v1 else { return Ok(()) };
    let mut asked = Sheet::new(Path::new(""));
    translate(resources, &mut asked)?;
    match asked.first_property() {
        Some(property) => bail!("{property}: no cgroup hierarchy here has the {name} controller"),
        None => Ok(()),
    }
}

/// v1's lines; v2's program is no limit to be written first: the kernel checks and compiles it for as long as half a
/// mount tree takes, and nothing but the payload has to be held by it.
fn device_lines(
    layout: &Layout,
    plan: &mut Cgroups,
    resources: &Resources<'_>,
    rules: &[devices::Rule],
) -> Result<Vec<HostStep>> {
    let trees = || layout.hierarchies.iter().zip(&plan.dirs);
    if let Some((_, dir)) = trees().find(|(t, _)| t.controllers.iter().any(|c| c == "devices")) {
        return devices::v1(rules, dir);
    }
    // v2 needs no controller for it: the program hangs on the directory.
    if let Some((_, dir)) = trees().find(|(t, _)| t.version == Version::V2) {
        let limit = |program| HostStep::AttachDeviceFilter { dir: dir.clone(), program, rules: rules.len() };
        plan.post_clone = devices::program(rules)?.map(limit).into_iter().collect();
        return Ok(Vec::new());
    }
    if !resources.devices.is_empty() {
        bail!("linux.resources.devices: no cgroup hierarchy here has the devices controller");
    }
    Ok(Vec::new())
}

fn unified(
    layout: &Layout,
    plan: &Cgroups,
    needed: &mut [Vec<String>],
    resources: &Resources<'_>,
) -> Result<Vec<HostStep>> {
    let mut steps = Vec::new();
    for (file, value) in &resources.unified.0 {
        let property = format!("unified[\"{file}\"]");
        let whole = || format!("linux.resources.{property}");
        let Some((controller, _)) =
            file.split_once('.').filter(|(c, _)| !c.is_empty() && !file.contains('/'))
        else {
            bail!("{}: expected the name of a file, CONTROLLER.PARAMETER", whole());
        };
        let i = layout.hierarchies.iter().position(|t| t.version == Version::V2);
        let i = i.with_context(|| format!("{}: no cgroup v2 hierarchy here", whole()))?;
        if controller != "cgroup" {
            if !layout.hierarchies[i].controllers.iter().any(|c| c == controller) {
                bail!("{}: the cgroup v2 hierarchy here has no {controller} controller", whole());
            }
            needed[i].push(controller.to_owned());
        }
        let mut sheet = Sheet::new(&plan.dirs[i]);
        sheet.write_or(&property, file, value.lines().map(str::to_owned).collect(), IfMissing::Fail);
        steps.append(&mut sheet.steps);
    }
    Ok(steps)
}

/// The container's directory in one hierarchy. A path with a leading `/` begins at the mount; another, and the
/// default, at the runtime's own cgroup, or on v2 beside it: a v2 cgroup with processes can't give controllers to
/// its children, so below our own one nothing could be limited (cgroup-v2.rst, "no internal process constraint").
fn dir(tree: &Hierarchy, cgroups_path: &str, id: &str) -> Result<PathBuf> {
    let mut parts: Vec<&str> = Vec::new();
    if !cgroups_path.starts_with('/') {
        extend_clean(&mut parts, &tree.own);
        if tree.version == Version::V2 {
            parts.pop();
        }
    }
    let base = parts.len();
    let mut below: Vec<&str> = Vec::new();
    extend_clean(&mut below, if cgroups_path.is_empty() { id } else { cgroups_path });
    if let Some(name) = below.iter().find(|name| is_a_file_of_each(name)) {
        bail!("linux.cgroupsPath: {name:?} is a file that every cgroup has; name it otherwise");
    }
    parts.append(&mut below);
    if parts.len() == base {
        bail!("linux.cgroupsPath: {cgroups_path:?} leaves no name for the container's own cgroup");
    }
    Ok(parts.iter().fold(tree.mount.clone(), |dir, part| dir.join(part)))
}

/// The names that the kernel's core keeps for itself (cgroup-v2.rst, "Avoid Name Collisions"; cgroup-v1/cgroups.rst). Those of
/// controllers are looked for where the cgroup is made: not every group has them, and an id may well begin as they do.
fn is_a_file_of_each(name: &str) -> bool {
    name.starts_with("cgroup.") || matches!(name, "tasks" | "notify_on_release" | "release_agent")
}

fn extend_clean<'p>(parts: &mut Vec<&'p str>, path: &'p str) {
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
}

/// From the mount down to the directory that holds `dir`.
fn parents(tree: &Hierarchy, dir: &Path) -> Vec<PathBuf> {
    let mut above: Vec<PathBuf> =
        dir.ancestors().skip(1).take_while(|a| a.starts_with(&tree.mount)).map(Path::to_owned).collect();
    above.reverse();
    above
}

#[cfg(test)]
mod tests;
