//! On the host: groups of the resctrl filesystem (filesystems/resctrl.rst).

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use linux::{absent, kernfs};
use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkdir};

use crate::facts::RESCTRL;

/// Makes a group and writes its schemata. One that others may be in (`shared`) is taken as it is: it must be there when
/// no schemata are given, and have just these otherwise (config-linux.md#intelrdt).
///
/// # Errors
/// Names the call, and what the filesystem itself says about it.
pub(super) fn group(dir: &Path, schemata: &[String], shared: bool) -> Result<()> {
    if shared && schemata.is_empty() {
        let there = absent::is_dir(dir).with_context(|| format!("stat {}", dir.display()))?;
        return if there { Ok(()) } else { bail!("there is no {}", dir.display()) };
    }
    match mkdir(dir, Mode::from_bits_truncate(0o755)) {
        Err(Errno::EEXIST) if shared => return compare(dir, schemata),
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(e) => return Err(refused(&format!("mkdir {}", dir.display()), e)),
    }
    match schemata {
        [] => Ok(()),
        // In one write: a share that grows may only fit where another shrinks.
        lines => {
            let file = dir.join("schemata");
            let done = kernfs::write(&file, &format!("{}\n", lines.join("\n")));
            done.map_err(|e| refused(&format!("write {} to {}", lines.join("; "), file.display()), e))
        }
    }
}

/// Moves a process with one thread into a group.
///
/// # Errors
/// Names the call, and what the filesystem itself says about it.
pub(super) fn enter(dir: &Path, pid: Pid) -> Result<()> {
    let file = dir.join("tasks");
    kernfs::write(&file, &pid.to_string())
        .map_err(|e| refused(&format!("write {pid} to {}", file.display()), e))
}

fn refused(doing: &str, e: Errno) -> anyhow::Error {
    // Only to say more about an error that is reported in any case.
    let why = kernfs::read(&Path::new(RESCTRL).join("info/last_cmd_status")).unwrap_or_default();
    match why.trim() {
        "" | "ok" => anyhow!("{doing}: {e}"),
        why => anyhow!("{doing}: {e} ({why})"),
    }
}

fn compare(dir: &Path, wanted: &[String]) -> Result<()> {
    let file = dir.join("schemata");
    let text = kernfs::read(&file).map_err(|e| refused(&format!("read {}", file.display()), e))?;
    let (there, wanted) = (shares(text.lines()), shares(wanted.iter().map(String::as_str)));
    match wanted.iter().find(|(key, share)| there.get(*key) != Some(share)) {
        Some(((resource, domain), share)) => {
            bail!("{} is there already, and has not {resource}:{domain}={share}", dir.display())
        }
        None => Ok(()),
    }
}

/// `L3:0=ff;1=c0` and its like, by resource and domain. The kernel pads numbers with zeros.
fn shares<'a>(lines: impl Iterator<Item = &'a str>) -> BTreeMap<(String, String), String> {
    let pairs = lines.filter_map(|line| line.split_once(':')).flat_map(|(resource, all)| {
        all.split(';').filter_map(|one| one.split_once('=')).map(move |(domain, share)| {
            let share = share.trim().trim_start_matches('0').to_ascii_lowercase();
            ((resource.trim().to_owned(), domain.trim().to_owned()), share)
        })
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No hardware with RDT was at hand: plain files stand for the filesystem's.
    struct Group(std::path::PathBuf);

    impl Group {
        fn new(name: &str, schemata: &str) -> Self {
            let group = Self(std::env::temp_dir().join(format!("ampoule-rdt-{name}-{}", std::process::id())));
            std::fs::create_dir(&group.0).unwrap();
            std::fs::write(group.0.join("schemata"), schemata).unwrap();
            std::fs::write(group.0.join("tasks"), "").unwrap();
            group
        }
    }

    impl Drop for Group {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn lines(all: &[&str]) -> Vec<String> {
        all.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn a_group_of_its_own_gets_its_schemata_in_one_write_and_the_process() {
        let own = Group::new("own", "");
        group(&own.0, &lines(&["L3:0=7f0;1=1f", "MB:0=20;1=70"]), false).unwrap();
        enter(&own.0, Pid::from_raw(42)).unwrap();
        let read = |name: &str| std::fs::read_to_string(own.0.join(name)).unwrap();
        assert_eq!(read("schemata"), "L3:0=7f0;1=1f\nMB:0=20;1=70\n");
        assert_eq!(read("tasks"), "42");
    }

    #[test]
    fn a_class_that_is_there_must_have_the_schemata_that_are_asked_for() {
        let class = Group::new("class", "    MB:0= 20;1= 70\n    L3:0=007f0;1=0001f\n");
        let ask = |all: &[&str]| group(&class.0, &lines(all), true).map_err(|e| e.to_string());
        ask(&["L3:0=7f0;1=1F", "MB:1=70"]).unwrap();
        ask(&[]).unwrap();
        assert!(ask(&["L3:0=7f1"]).unwrap_err().ends_with("has not L3:0=7f1"));
        assert!(ask(&["L2:0=1"]).is_err());
    }

    #[test]
    fn a_class_without_schemata_must_be_there() {
        assert!(group(Path::new("/nowhere/at/all"), &[], true).is_err());
    }
}
