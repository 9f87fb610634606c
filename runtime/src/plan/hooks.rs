//! The document's hooks, and where in a container's life they stand (runtime.md#lifecycle).

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::draft::Draft;
use super::step::{Hook, HookKind, HostStep, HostSync, InitSync, LifecycleStep};
use crate::spec::{self, Spec};

/// Reads the hooks of one kind.
///
/// # Errors
/// The JSON path of a hook without an absolute path, or whose timeout (seconds) is not positive.
pub fn of(spec: &Spec<'_>, kind: HookKind) -> Result<Vec<Hook>> {
    let list = match kind {
        HookKind::Prestart => &spec.hooks.prestart,
        HookKind::CreateRuntime => &spec.hooks.create_runtime,
        HookKind::CreateContainer => &spec.hooks.create_container,
        HookKind::StartContainer => &spec.hooks.start_container,
        HookKind::Poststart => &spec.hooks.poststart,
        HookKind::Poststop => &spec.hooks.poststop,
    };
    list.iter().enumerate().map(|(n, hook)| read(hook, &format!("hooks.{kind}[{n}]"))).collect()
}

fn read(hook: &spec::Hook<'_>, at: &str) -> Result<Hook> {
    if !hook.path.starts_with('/') {
        bail!("{at}.path: {:?}, expected an absolute path", &*hook.path);
    }
    let timeout = match hook.timeout {
        None => None,
        Some(seconds @ 1..) => Some(u32::try_from(seconds).unwrap_or(u32::MAX)),
        Some(seconds) => bail!("{at}.timeout: {seconds}, expected at least 1 second"),
    };
    let text = |all: &[spec::Str<'_>]| all.iter().map(|s| s.to_string()).collect::<Vec<_>>();
    Ok(Hook { path: PathBuf::from(&*hook.path), args: text(&hook.args), env: text(&hook.env), timeout })
}

fn host(spec: &Spec<'_>) -> Result<Vec<(HookKind, Vec<Hook>)>> {
    let mut all = Vec::new();
    for kind in [HookKind::Prestart, HookKind::CreateRuntime] {
        let hooks = of(spec, kind)?;
        if !hooks.is_empty() {
            all.push((kind, hooks));
        }
    }
    Ok(all)
}

/// Has the new process wait for the host's hooks, then run the container's own, still on the host's tree. Returns the host's
/// side.
pub(super) fn before_pivot(draft: &mut Draft<'_>) -> Result<Vec<HostStep>> {
    let (host, own) = (host(draft.spec)?, of(draft.spec, HookKind::CreateContainer)?);
    if host.is_empty() && own.is_empty() {
        return Ok(Vec::new());
    }
    // Its own hooks wait for the host's side, too: they are held by the container's limits.
    draft.step(LifecycleStep::Send { point: InitSync::ReadyForHooks });
    draft.step(LifecycleStep::Wait { point: HostSync::HooksRan });
    if !own.is_empty() {
        draft.step(LifecycleStep::RunHooks { kind: HookKind::CreateContainer, hooks: own });
    }
    let mut steps = vec![HostStep::Expect { point: InitSync::ReadyForHooks }];
    steps.extend(host.into_iter().map(|(kind, hooks)| HostStep::RunHooks { kind, hooks }));
    steps.push(HostStep::Send { point: HostSync::HooksRan });
    Ok(steps)
}

/// What the new process runs once it is started.
pub(super) fn behind_the_gate(draft: &mut Draft<'_>) -> Result<()> {
    let hooks = of(draft.spec, HookKind::StartContainer)?;
    if !hooks.is_empty() {
        draft.step(LifecycleStep::RunHooks { kind: HookKind::StartContainer, hooks });
    }
    Ok(())
}
