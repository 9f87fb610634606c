//! The systemd cgroup driver: the container's cgroup is a scope (systemd.scope(5)) that systemd makes, in a slice that
//! the document names, and everything below it is ours (Delegate=).
//!
//! systemd moves a process that is there already, so what is done before the clone with the other driver is done after it
//! here. Limits are set twice: as properties of systemd's, which writes its own view of a unit anew whenever it is
//! reloaded, and in the kernel's files, because systemd rounds some and knows only the more common ones.

use std::path::PathBuf;

use ::cgroup::layout::{Hierarchy, Version};
use anyhow::{Result, bail};
use dbus::gvariant::Value;
use serde::{Deserialize, Serialize};

use super::Plan;
use super::cgroup::{self, Cgroups};
use super::step::HostStep;
use crate::facts::Facts;
use crate::spec::Spec;

mod annotations;
mod resources;

/// A unit of systemd's that holds a container, the slice it lies in, and whether the user's own manager keeps it
/// rather than the system's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "said above")]
pub struct Scope {
    pub unit: String,
    pub slice: String,
    pub user: bool,
}

/// One property of a unit (org.freedesktop.systemd1(5)).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Property {
    /// As the bus spells it: `TimeoutStopUSec`, not `TimeoutStopSec`.
    pub name: String,
    /// Its value.
    pub value: Value,
    /// Whether a systemd that doesn't take it does without: it is written to the cgroup, too.
    pub dispensable: bool,
}

impl Property {
    fn new(name: &str, value: Value) -> Self {
        Property { name: name.to_owned(), value, dispensable: false }
    }

    fn dispensable(name: &str, value: Value) -> Self {
        Property { dispensable: true, ..Property::new(name, value) }
    }
}

/// Plans the container's scope, and its limits.
///
/// # Errors
/// Names linux.cgroupsPath, the limit or the annotation that can't be.
pub(super) fn cgroups(facts: &Facts, spec: &Spec<'_>, id: &str) -> Result<Cgroups> {
    let [tree @ Hierarchy { version: Version::V2, .. }] = &facts.cgroups.hierarchies[..] else {
        bail!(
            "--systemd-cgroup: needs a host with cgroup v2 alone, which this one is not (see ampoule check); without \
             the flag the cgroupfs driver does it"
        );
    };
    let name = ScopeName::parse(&spec.linux.cgroups_path, id, facts.manager.user)?;
    let dir = name.dir(tree, &facts.manager.root);
    let mut plan = cgroup::of_dirs(facts, vec![dir.clone()], &spec.linux.resources)?;
    // systemd makes the directory.
    let limits: Vec<HostStep> =
        plan.pre_clone.drain(..).filter(|s| !matches!(s, HostStep::MakeCgroup { .. })).collect();
    let mut properties = base(id, &name.slice);
    properties.extend(annotations::properties(&spec.annotations)?);
    // After the annotations: what config.json says in its own words is what is written to the cgroup.
    properties.extend(resources::properties(&limits));
    let scope = Scope { unit: name.unit, slice: name.slice, user: facts.manager.user };
    let mut post_clone = vec![HostStep::StartScope { scope: scope.clone(), dir, properties }];
    post_clone.extend(limits);
    post_clone.append(&mut plan.post_clone);
    Ok(Cgroups { scope: Some(scope), into: None, post_clone, ..plan })
}

/// Has a plan of `update` set its limits as the scope's properties, too, before it writes them to the cgroup.
pub fn set_properties(scope: &Scope, plan: &mut Plan) {
    let properties = resources::properties(&plan.pre_clone);
    if !properties.is_empty() {
        plan.pre_clone.insert(0, HostStep::SetScopeProperties { scope: scope.clone(), properties });
    }
}

fn base(id: &str, slice: &str) -> Vec<Property> {
    let text = |text: &str| Value::Text(text.to_owned());
    vec![
        Property::new("Description", text(&format!("ampoule container {id}"))),
        Property::new("Slice", text(slice)),
        // Every controller, and nobody but us below.
        Property::new("Delegate", Value::Boolean(true)),
        // Or it would be stopped with the first of all things at shutdown, before the engine that cares for it.
        Property::new("DefaultDependencies", Value::Boolean(false)),
        // A failed scope would keep its name taken (systemd 236).
        Property::dispensable("CollectMode", text("inactive-or-failed")),
    ]
}

/// Where `linux.cgroupsPath` puts the container: runc's `slice:prefix:name`.
#[derive(Debug, PartialEq, Eq)]
struct ScopeName {
    slice: String,
    unit: String,
}

impl ScopeName {
    fn parse(path: &str, id: &str, user: bool) -> Result<ScopeName> {
        let bad = |why: String| anyhow::anyhow!("linux.cgroupsPath: {path:?}: {why}");
        let (slice, prefix, name) = match path.split(':').collect::<Vec<_>>()[..] {
            [""] => ("", "ampoule", id),
            [slice, prefix, name] => (slice, prefix, name),
            _ => return Err(bad("with --systemd-cgroup expected slice:prefix:name".to_owned())),
        };
        let slice = match slice {
            "" if user => "user.slice",
            "" => "system.slice",
            "-" => "-.slice",
            slice => slice,
        };
        if slice_path(slice).is_none() {
            return Err(bad(format!("{slice:?} is no name of a slice, such as system.slice or a-b.slice")));
        }
        if name.is_empty() {
            return Err(bad("the name is missing".to_owned()));
        }
        if name.ends_with(".slice") {
            return Err(bad(format!("{name:?} would be a slice, and a slice holds no process")));
        }
        let dash = if prefix.is_empty() { "" } else { "-" };
        let unit = format!("{prefix}{dash}{name}.scope");
        if let Some(odd) = unit.chars().find(|c| !is_unit_char(*c)) {
            return Err(bad(format!("a unit's name can't hold {odd:?} (systemd.unit(5))")));
        }
        if unit.len() > MAX_NAME {
            return Err(bad(format!("a unit's name has at most {MAX_NAME} bytes, not {}", unit.len())));
        }
        Ok(ScopeName { slice: slice.to_owned(), unit })
    }

    fn dir(&self, tree: &Hierarchy, root: &str) -> PathBuf {
        let mut dir = tree.mount.join(root.trim_start_matches('/'));
        dir.extend(slice_path(&self.slice).unwrap_or_default());
        dir.join(&self.unit)
    }
}

/// systemd's UNIT_NAME_MAX, without the end of the string.
const MAX_NAME: usize = 255;

/// systemd.unit(5), "String Escaping for Inclusion in Unit Names".
fn is_unit_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || ":-_.\\@".contains(c)
}

/// systemd.slice(5): `a-b.slice` lies in `a.slice`, and `-.slice` is the root.
fn slice_path(slice: &str) -> Option<Vec<String>> {
    let name = slice.strip_suffix(".slice")?;
    if name == "-" {
        return Some(Vec::new());
    }
    let valid = slice.len() <= MAX_NAME && slice.chars().all(is_unit_char) && !name.contains('@');
    if !valid || name.split('-').any(str::is_empty) {
        return None;
    }
    let ends = name.match_indices('-').map(|(at, _)| at).chain([name.len()]);
    Some(ends.map(|end| format!("{}.slice", &name[..end])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &str) -> Result<(String, String), String> {
        let name = ScopeName::parse(path, "web", false).map_err(|e| e.to_string())?;
        let tree = &::cgroup::layout::Layout::pure_v2().hierarchies[0];
        Ok((name.slice.clone(), name.dir(tree, "/").display().to_string()))
    }

    #[test]
    fn a_path_names_a_slice_a_prefix_and_a_name() {
        let ok = |path: &str, slice: &str, dir: &str| {
            assert_eq!(at(path), Ok((slice.to_owned(), format!("/sys/fs/cgroup/{dir}"))), "{path}");
        };
        ok("", "system.slice", "system.slice/ampoule-web.scope");
        ok(":cri:abc", "system.slice", "system.slice/cri-abc.scope");
        ok("a.slice::abc", "a.slice", "a.slice/abc.scope");
        ok("-.slice:p:n", "-.slice", "p-n.scope");
        ok("-:p:n", "-.slice", "p-n.scope");
        ok(
            "kubepods-pod1_2.slice:crio:n",
            "kubepods-pod1_2.slice",
            "kubepods.slice/kubepods-pod1_2.slice/crio-n.scope",
        );
        ok("a-b-c.slice:p:n", "a-b-c.slice", "a.slice/a-b.slice/a-b-c.slice/p-n.scope");
    }

    #[test]
    fn a_users_own_default_is_the_slice_of_users() {
        let name = ScopeName::parse("", "web", true).unwrap();
        assert_eq!(name, ScopeName { slice: "user.slice".into(), unit: "ampoule-web.scope".into() });
    }

    #[test]
    fn what_is_no_such_path_is_refused_by_its_name() {
        for path in [
            "/web",
            "web",
            "a:b",
            "a.slice:b:c:d",
            "a:b:c",
            "a/b.slice:p:n",
            "-a.slice:p:n",
            "a--b.slice:p:n",
            "a-.slice:p:n",
            ".slice:p:n",
            "../x.slice:p:n",
            "a@b.slice:p:n",
            "a.slice:p:",
            "a.slice:p:n.slice",
            "a.slice:p/q:n",
            "a.slice:p:../n",
            "a.slice:p:a+b",
            "a.slice:p:a b",
            "a.slice:p:ä",
            "::",
        ] {
            let error = at(path).unwrap_err();
            assert!(error.starts_with("linux.cgroupsPath: "), "{path}: {error}");
        }
        assert!(at(&format!("::{}", "n".repeat(250))).unwrap_err().contains("255"));
        assert!(at(&format!("::{}", "n".repeat(249))).is_ok());
    }
}
