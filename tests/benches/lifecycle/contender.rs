//! Who is measured, and how each is told what to do.

use std::path::{Path, PathBuf};
use std::process::Command;

use ampoule_tests::on_path;
use anyhow::{Context, Result, bail};

use crate::command::{Cost, Spawn, measure};
use crate::place::{Payload, Place};
use crate::sys;

/// A program on the starting line.
pub(crate) struct Contender {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    /// The first line of `--version`.
    pub(crate) version: String,
    kind: Kind,
}

#[derive(PartialEq)]
enum Kind {
    Floor,
    Ampoule,
    Other,
}

/// Finds the programs; also says which of our own are missing.
pub(crate) fn find() -> Result<(Vec<Contender>, Vec<String>)> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the tests are in a workspace")?;
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let musl = format!("{}-unknown-linux-musl/release/floor", std::env::consts::ARCH);
    let ours = [
        ("floor", Kind::Floor, "FLOOR", workspace.join(target).join(musl)),
        ("ampoule", Kind::Ampoule, "AMPOULE", workspace.join("target/bin/ampoule")),
    ];
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for (name, kind, variable, default) in ours {
        let program = std::env::var_os(variable).map_or(default, PathBuf::from);
        if !program.exists() {
            missing.push(format!("{} is missing: run `make build`, or set {variable}", program.display()));
            continue;
        }
        let version = if kind == Kind::Floor { "floor".into() } else { version(&program)? };
        found.push(Contender { name: name.into(), program, version, kind });
    }
    for name in ["crun", "youki", "runc"] {
        if let Some(program) = on_path(name) {
            let version = version(&program)?;
            found.push(Contender { name: name.into(), program, version, kind: Kind::Other });
        }
    }
    if found.is_empty() {
        bail!("nothing to measure: {}", missing.join("; "));
    }
    Ok((found, missing))
}

fn version(program: &Path) -> Result<String> {
    let output = Command::new(program).arg("--version").output();
    let output = output.with_context(|| format!("start {}", program.display()))?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
}

impl Contender {
    /// Whether its failure is ours.
    pub(crate) fn is_ours(&self) -> bool {
        self.kind != Kind::Other
    }

    /// Whether it has the verbs of a runtime, not only `run`.
    pub(crate) fn is_runtime(&self) -> bool {
        self.kind != Kind::Floor
    }

    /// `run`, from nothing to nothing.
    pub(crate) fn run(&self, payload: Payload, place: &Place<'_>) -> Result<Cost> {
        let mut command = Command::new(&self.program);
        if self.kind == Kind::Floor {
            command
                .arg(place.stage.rootfs())
                .arg(place.stage.id())
                .arg(place.layout.name())
                .args(payload.args());
        } else {
            command.arg("--root").arg(self.state_root(place)).arg("run");
            command.arg("--bundle").arg(place.bundle(payload)).arg(place.stage.id());
        }
        measure(command, Spawn::ForTime, payload.exit_code(), place)
    }

    /// create, start, delete: what each costs. The container ends by itself in between; that wait isn't
    /// counted. Only the first command is started in the given way.
    pub(crate) fn live(&self, place: &Place<'_>, spawn: Spawn) -> Result<[Cost; 3]> {
        let pid_file = place.stage.pid_file();
        // An old one would hide that none is written.
        let _ = std::fs::remove_file(&pid_file);
        let mut create = self.verb(place, "create");
        create
            .arg("--bundle")
            .arg(place.bundle(Payload::True))
            .arg("--pid-file")
            .arg(&pid_file)
            .arg(place.stage.id());
        let created = measure(create, spawn, 0, place)?;

        let pid = std::fs::read_to_string(&pid_file).context("read the pid file")?;
        let pid = pid.trim().parse().with_context(|| format!("{} wrote {pid:?} as pid file", self.name))?;
        let init = sys::pidfd_open(pid).context("open the container's init")?;
        let mut start = self.verb(place, "start");
        start.arg(place.stage.id());
        let started = measure(start, Spawn::ForTime, 0, place)?;
        place.interrupts.wait_for_end(&init).context("the container")?;

        let mut delete = self.verb(place, "delete");
        delete.arg(place.stage.id());
        let deleted = measure(delete, Spawn::ForTime, 0, place)?;
        Ok([created, started, deleted])
    }

    /// Removes what a failure may have left. It may also have left nothing, so no answer is wrong.
    pub(crate) fn clean_up(&self, place: &Place<'_>) {
        if self.is_runtime() {
            let _ = self.verb(place, "delete").arg("--force").arg(place.stage.id()).output();
        }
    }

    fn verb(&self, place: &Place<'_>, verb: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(self.state_root(place)).arg(verb);
        command
    }

    fn state_root(&self, place: &Place<'_>) -> PathBuf {
        place.stage.state().join(&self.name)
    }
}
