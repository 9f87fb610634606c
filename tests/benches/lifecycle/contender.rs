//! Who is measured, and how each is told what to do.

use std::path::{Path, PathBuf};
use std::process::Command;

use ampoule_tests::on_path;
use anyhow::{Context, Result, bail};

use crate::command::{Cost, Spawn, measure};
use crate::environment::{Environment, Payload};
use crate::sys;

/// A program that is measured.
pub(crate) struct Contender {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    /// The first line of `--version`.
    pub(crate) version: String,
    kind: Kind,
}

#[derive(PartialEq)]
enum Kind {
    Baseline,
    Ampoule,
    OtherRuntime,
}

/// Finds the programs; also says which of our own are missing.
pub(crate) fn find() -> Result<(Vec<Contender>, Vec<String>)> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the tests are in a workspace")?;
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let musl = format!("{}-unknown-linux-musl/release/baseline", std::env::consts::ARCH);
    let ours = [
        ("baseline", Kind::Baseline, "BASELINE", workspace.join(target).join(musl)),
        ("ampoule", Kind::Ampoule, "AMPOULE", workspace.join("target/bin/ampoule")),
    ];
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for (name, kind, variable, default) in ours {
        let program = std::env::var_os(variable).map_or(default, PathBuf::from);
        if !program.exists() {
            missing.push(format!("{} is missing: run `make build`, or set {variable}", program.display()));
            continue;
        }
        let version = if kind == Kind::Baseline { "baseline".into() } else { version(&program)? };
        found.push(Contender { name: name.into(), program, version, kind });
    }
    for name in ["crun", "youki", "runc"] {
        if let Some(program) = on_path(name) {
            let version = version(&program)?;
            found.push(Contender { name: name.into(), program, version, kind: Kind::OtherRuntime });
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
        self.kind != Kind::OtherRuntime
    }

    /// Whether it has the verbs of a runtime, not only `run`.
    pub(crate) fn is_runtime(&self) -> bool {
        self.kind != Kind::Baseline
    }

    /// `run`, from nothing to nothing.
    pub(crate) fn run(&self, payload: Payload, env: &Environment<'_>) -> Result<Cost> {
        let mut command = Command::new(&self.program);
        if self.kind == Kind::Baseline {
            command
                .arg(env.namespace.rootfs())
                .arg(env.namespace.id())
                .arg(env.layout.name())
                .args(payload.args());
        } else {
            command.arg("--root").arg(self.state_root(env)).arg("run");
            command.arg("--bundle").arg(env.bundle(payload)).arg(env.namespace.id());
        }
        measure(command, Spawn::ForTime, payload.exit_code(), env)
    }

    /// create, start, delete: what each costs. The container ends by itself in between; that wait isn't
    /// counted. Only the first command is started in the given way.
    pub(crate) fn create_start_delete(&self, env: &Environment<'_>, spawn: Spawn) -> Result<[Cost; 3]> {
        let pid_file = env.namespace.pid_file();
        // An old one would hide that none is written.
        let _ = std::fs::remove_file(&pid_file);
        let mut create = self.verb(env, "create");
        create
            .arg("--bundle")
            .arg(env.bundle(Payload::True))
            .arg("--pid-file")
            .arg(&pid_file)
            .arg(env.namespace.id());
        let created = measure(create, spawn, 0, env)?;

        let pid = std::fs::read_to_string(&pid_file).context("read the pid file")?;
        let pid = pid.trim().parse().with_context(|| format!("{} wrote {pid:?} as pid file", self.name))?;
        let init = sys::pidfd_open(pid).context("open the container's init")?;
        let mut start = self.verb(env, "start");
        start.arg(env.namespace.id());
        let started = measure(start, Spawn::ForTime, 0, env)?;
        env.interrupts.wait_for_end(&init).context("the container")?;

        let mut delete = self.verb(env, "delete");
        delete.arg(env.namespace.id());
        let deleted = measure(delete, Spawn::ForTime, 0, env)?;
        Ok([created, started, deleted])
    }

    /// Removes what a failure may have left. It may also have left nothing, so no answer is wrong.
    pub(crate) fn clean_up(&self, env: &Environment<'_>) {
        if self.is_runtime() {
            let _ = self.verb(env, "delete").arg("--force").arg(env.namespace.id()).output();
        }
    }

    fn verb(&self, env: &Environment<'_>, verb: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(self.state_root(env)).arg(verb);
        command
    }

    fn state_root(&self, env: &Environment<'_>) -> PathBuf {
        env.namespace.state().join(&self.name)
    }
}
