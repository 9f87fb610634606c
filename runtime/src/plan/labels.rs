//! Linux security modules: AppArmor's profile and SELinux's labels of the process, SELinux's label of its mounts.

use anyhow::{Result, bail};

use super::draft::Draft;
use super::step::{Parameter, PayloadStep, SetupStep};
use crate::spec::{Process, Str};

/// Filesystems whose files have their labels from the policy, and refuse others (runc leaves them alone, too).
const LABELLED: &[&str] = &["proc", "sysfs", "cgroup", "cgroup2", "mqueue"];

/// What is written to the kernel as one line, and so must be one.
fn line(text: &Str<'_>, at: &str) -> Result<Option<String>> {
    if text.contains(|c: char| c.is_control()) {
        bail!("{at}: {:?} holds control characters", &**text);
    }
    Ok(Some(text.to_string()).filter(|text| !text.is_empty()))
}

fn selinux(draft: &Draft<'_>, label: &Str<'_>, at: &str) -> Result<Option<String>> {
    let label = line(label, at)?;
    if label.is_some() && !draft.facts.selinux {
        bail!("{at}: SELinux is not on here; boot with lsm=…,selinux (CONFIG_SECURITY_SELINUX) and a policy");
    }
    Ok(label)
}

/// What the payload's exec will be confined by. Keys that the process makes until then are its own, too.
pub(super) fn process(draft: &mut Draft<'_>, process: &Process<'_>) -> Result<()> {
    const AT: &str = "process.apparmorProfile";
    let profile = line(&process.apparmor_profile, AT)?;
    // Nothing confines anybody where AppArmor is off, so that wish is granted.
    let profile = profile.filter(|profile| draft.facts.apparmor || profile != "unconfined");
    if profile.is_some() && !draft.facts.apparmor {
        bail!("{AT}: AppArmor is not on here; boot with lsm=…,apparmor (CONFIG_SECURITY_APPARMOR)");
    }
    draft.steps(profile.map(|profile| PayloadStep::SetApparmorProfile { profile }));
    let label = selinux(draft, &process.selinux_label, "process.selinuxLabel")?;
    draft.steps(label.map(|label| PayloadStep::SetSelinuxLabel { label }));
    Ok(())
}

/// The label of the session keyring that comes next.
pub(super) fn keys(draft: &mut Draft<'_>, process: &Process<'_>) -> Result<()> {
    let label = selinux(draft, &process.selinux_label, "process.selinuxLabel")?;
    draft.steps(label.map(|label| SetupStep::SetKeyLabel { label }));
    Ok(())
}

/// The option by which a filesystem of this kind has `linux.mountLabel` on all that is in it.
pub(super) fn of_mount(draft: &Draft<'_>, kind: &str) -> Result<Option<Parameter>> {
    let label = selinux(draft, &draft.spec.linux.mount_label, "linux.mountLabel")?;
    let label = label.filter(|_| !LABELLED.contains(&kind));
    Ok(label.map(|label| Parameter::Value("context".to_owned(), label)))
}
