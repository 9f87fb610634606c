//! Golden plans: `tests/plans/NAME.json`, planned for a v1 and a v2 host, must read `NAME.v1.txt` and `NAME.v2.txt`;
//! `rootless-NAME` is planned for user 1000, whom the host has delegated no cgroup;
//! `systemd-NAME` and `systemd` for the systemd driver; `restore` as the restore of what it would create.
//! `UPDATE=1 cargo test -p ampoule goldens` writes them anew; the diff is the review.

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use ampoule::facts::Facts;
use ampoule::plan::{Console, Driver, Options, Plan, Request, create, restore};
use ampoule::spec;
use cgroup::layout::Layout;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/plans")
}

fn root(cgroups: Layout) -> Facts {
    Facts {
        cgroups,
        capabilities: u64::MAX,
        apparmor: true,
        resctrl: true,
        selinux: true,
        ..Facts::default()
    }
}

fn user(undelegated: Layout) -> Facts {
    Facts { undelegated, euid: 1000, egid: 1000, rootless: true, ..Facts::default() }
}

/// The plan of a document, or the one line that refuses it.
fn plan(config: &[u8], facts: &Facts, driver: Driver) -> String {
    planned(config, facts, driver, |whole| whole)
}

/// The plan of its restore, likewise.
fn restored(config: &[u8], facts: &Facts) -> String {
    let paths = (Path::new("/usr/sbin/criu"), Path::new("/run/ampoule/web"));
    planned(config, facts, Driver::Cgroupfs, |whole| restore(whole, paths.0, paths.1))
}

fn planned<P: Display>(config: &[u8], facts: &Facts, driver: Driver, then: impl Fn(Plan) -> P) -> String {
    let spec = match spec::parse(config) {
        Ok(spec) => spec,
        Err(e) => return format!("refused: {e}\n"),
    };
    let terminal = spec.process.as_ref().is_some_and(|p| p.terminal);
    let console = if terminal { Console::Foreground } else { Console::None };
    let options = Options { console, driver, ..Options::default() };
    let bundle = Path::new("/bundle");
    match create(&Request { id: "web", bundle, spec: &spec, facts, options: &options }) {
        Ok(plan) => then(plan).to_string(),
        Err(e) => format!("refused: {e:#}\n"),
    }
}

#[test]
fn plans_read_as_their_goldens() {
    let mut seen = 0;
    for entry in fs::read_dir(folder()).unwrap() {
        let config = entry.unwrap().path();
        if config.extension().is_none_or(|e| e != "json") {
            continue;
        }
        let bytes = fs::read(&config).unwrap();
        let systemd = config.file_name().is_some_and(|name| name.to_string_lossy().starts_with("systemd"));
        let driver = if systemd { Driver::Systemd } else { Driver::Cgroupfs };
        for (host, layout) in [("v1", Layout::pure_v1()), ("v2", Layout::pure_v2())] {
            let golden = config.with_extension(format!("{host}.txt"));
            let rootless = config.file_name().is_some_and(|n| n.to_string_lossy().starts_with("rootless-"));
            let facts = if rootless { user(layout) } else { root(layout) };
            let saved = config.file_name().is_some_and(|n| n == "restore.json");
            let planned = if saved { restored(&bytes, &facts) } else { plan(&bytes, &facts, driver) };
            if std::env::var_os("UPDATE").is_some() {
                fs::write(&golden, &planned).unwrap();
            }
            let wanted = fs::read_to_string(&golden).unwrap_or_default();
            assert_eq!(planned, wanted, "{}", golden.display());
            seen += 1;
        }
    }
    assert!(seen >= 10, "only {seen} goldens were found");
}

proptest! {
    /// Whatever stands where a value stood: a plan or one line, never a panic.
    #[test]
    fn no_document_makes_the_planner_panic(seed in any::<u64>(), with in "[ -~]{0,12}") {
        let text = fs::read_to_string(folder().join("default.json")).unwrap();
        let places: Vec<usize> = text.match_indices([':', ',', '[']).map(|(at, _)| at + 1).collect();
        let at = places[seed as usize % places.len()];
        let end = text[at..].find([',', '}', ']']).map_or(text.len(), |n| at + n);
        for value in [with.clone(), format!("{with:?}"), "null".into(), "-1".into(), "[]".into(), "{}".into()] {
            let changed = format!("{}{value}{}", &text[..at], &text[end..]);
            plan(changed.as_bytes(), &root(Layout::pure_v2()), Driver::Cgroupfs);
            plan(changed.as_bytes(), &root(Layout::hybrid()), Driver::Cgroupfs);
            plan(changed.as_bytes(), &user(Layout::pure_v2()), Driver::Cgroupfs);
            plan(changed.as_bytes(), &root(Layout::pure_v2()), Driver::Systemd);
        }
    }

    /// Every document that oci-spec reads, we read, and see the same program in it.
    #[test]
    fn what_oci_spec_reads_we_read_alike(args in proptest::collection::vec("\\PC{0,8}", 0..4), uid in any::<u32>(), pids in any::<i64>()) {
        let text = fs::read_to_string(folder().join("default.json")).unwrap();
        let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
        value["process"]["args"] = serde_json::json!(args);
        value["process"]["user"]["uid"] = uid.into();
        value["linux"]["resources"]["pids"] = serde_json::json!({ "limit": pids });
        let text = value.to_string();
        if let Ok(theirs) = serde_json::from_str::<oci_spec::runtime::Spec>(&text) {
            let ours = spec::parse(text.as_bytes()).unwrap();
            let process = theirs.process().as_ref().unwrap();
            let mine = ours.process.as_ref().unwrap();
            let read: Vec<String> = mine.args.iter().map(|a| a.to_string()).collect();
            prop_assert_eq!(&read, process.args().as_ref().unwrap());
            prop_assert_eq!(mine.user.uid, process.user().uid());
            prop_assert_eq!(mine.cwd.to_string(), process.cwd().to_string_lossy());
            prop_assert_eq!(ours.mounts.len(), theirs.mounts().as_ref().unwrap().len());
        }
    }
}
