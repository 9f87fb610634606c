//! A container: its init, its execs, and what is known of them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use anyhow::{Context, Result};
use cgroup::Cgroup;
use containerd_shim_protos::shim::oci;
use interface::id::Id;
use serde::Deserialize;

use crate::engine::Engine;
use crate::events::Events;
use crate::fault::{Answer, Fault};
use crate::log;
use crate::oom::Oom;
use crate::process::Process;
use crate::stdio::Streams;

/// A container.
pub struct Container {
    pub id: String,
    pub bundle: PathBuf,
    /// Where the shim's own files are.
    pub notes: PathBuf,
    pub engine: Engine,
    pub options: oci::Options,
    pub init: Process,
    /// Where to restore it from, when it is started.
    pub checkpoint: Option<PathBuf>,
    pub paused: AtomicBool,
    /// Whether the end of its init is the end of all its processes.
    pub own_pid_namespace: bool,
    execs: Mutex<HashMap<String, Arc<Exec>>>,
    /// Known once it has an init.
    cgroups: OnceLock<Vec<PathBuf>>,
    oom: Mutex<Option<Oom>>,
}

/// One more process of a container.
pub struct Exec {
    pub process: Process,
    /// What to run, as config.json's `process`.
    pub spec: Vec<u8>,
}

/// What the shim reads of a bundle's config.json.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Config {
    linux: Linux,
    pub annotations: HashMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Linux {
    namespaces: Vec<Namespace>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Namespace {
    #[serde(rename = "type")]
    kind: String,
    path: String,
}

impl Config {
    /// # Errors
    /// The file is missing, or is no JSON document of that shape.
    pub fn read(bundle: &Path) -> Result<Config> {
        let path = bundle.join("config.json");
        let bytes = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&bytes).with_context(|| format!("read {}", path.display()))
    }

    fn own_pid_namespace(&self) -> bool {
        self.linux.namespaces.iter().any(|ns| ns.kind == "pid" && ns.path.is_empty())
    }
}

/// Whoever panics ends the program.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Container {
    pub fn new(
        id: &str,
        [bundle, notes]: [&Path; 2],
        engine: Engine,
        options: oci::Options,
        init: Process,
        config: &Config,
        checkpoint: Option<PathBuf>,
    ) -> Container {
        Container {
            id: id.to_owned(),
            bundle: bundle.to_owned(),
            notes: notes.to_owned(),
            engine,
            options,
            init,
            checkpoint,
            paused: AtomicBool::new(false),
            own_pid_namespace: config.own_pid_namespace(),
            execs: Mutex::default(),
            cgroups: OnceLock::new(),
            oom: Mutex::default(),
        }
    }

    /// It has an init: learns its cgroups, and watches for news of its memory. Without either it runs as well.
    pub fn has_init(&self, pid: i32, events: &Arc<Events>) {
        let cgroups = match cgroup::probe::container_cgroups(pid) {
            Ok(cgroups) => cgroups,
            Err(e) => return log::warning(format_args!("look for the cgroups of {}: {e:#}", self.id)),
        };
        match Oom::watch(&self.id, &cgroups, events) {
            Ok(oom) => *locked(&self.oom) = oom,
            Err(e) => log::warning(format_args!("watch the memory of {}: {e:#}", self.id)),
        }
        // A restored container has an init once only, too.
        let _ = self.cgroups.set(cgroups);
    }

    /// # Errors
    /// It has no init yet, or its cgroups can't be told from the host's.
    pub fn cgroups(&self) -> Answer<&[PathBuf]> {
        let cgroups = self.cgroups.get().filter(|dirs| !dirs.is_empty());
        let cgroups =
            cgroups.ok_or_else(|| Fault::not_found(format!("{} has no cgroup of its own", self.id)))?;
        Ok(cgroups)
    }

    /// The pids of all its processes; without a cgroup, of those that the shim started.
    ///
    /// # Errors
    /// A list that can't be read.
    pub fn pids(&self) -> Answer<Vec<i32>> {
        match self.cgroups() {
            Ok(cgroups) => Ok(Cgroup::new(cgroups.to_vec()).processes()?),
            Err(_) => {
                let execs = self.execs();
                let all = [&self.init].into_iter().chain(execs.iter().map(|exec| &exec.process));
                Ok(all.filter_map(Process::living_pid).collect())
            }
        }
    }

    /// Whether its program has run.
    pub fn was_started(&self) -> bool {
        self.init.was_started()
    }

    /// Its execs.
    pub fn execs(&self) -> Vec<Arc<Exec>> {
        locked(&self.execs).values().cloned().collect()
    }

    /// Adds an exec that waits to be started.
    ///
    /// # Errors
    /// The id is invalid or taken, or the container has ended.
    pub fn add_exec(&self, exec_id: &str, streams: Streams, spec: Vec<u8>) -> Answer<()> {
        Id::new(exec_id).map_err(|e| Fault::invalid(e.to_string()))?;
        self.check_alive()?;
        let mut execs = locked(&self.execs);
        if execs.contains_key(exec_id) {
            return Err(Fault::exists(format!("exec {exec_id:?} of {}: already exists", self.id)));
        }
        let process = Process::new(exec_id, streams, Default::default(), 0);
        execs.insert(exec_id.to_owned(), Arc::new(Exec { process, spec }));
        Ok(())
    }

    /// # Errors
    /// Its init has ended: nothing can be started in it any more.
    pub fn check_alive(&self) -> Answer<()> {
        if self.init.has_ended() {
            return Err(Fault::precondition(format!("container {} has ended", self.id)));
        }
        Ok(())
    }

    /// # Errors
    /// There is no such exec.
    pub fn exec(&self, exec_id: &str) -> Answer<Arc<Exec>> {
        let found = locked(&self.execs).get(exec_id).cloned();
        found.ok_or_else(|| Fault::not_found(format!("exec {exec_id:?} of {} not found", self.id)))
    }

    /// Tells what there is of its memory now; `killed` as in [`Oom::tell_now`].
    pub fn tell_oom(&self, killed: bool) {
        if let Some(oom) = &*locked(&self.oom) {
            oom.tell_now(killed);
        }
    }

    /// Forgets an exec.
    pub fn remove_exec(&self, exec_id: &str) {
        locked(&self.execs).remove(exec_id);
    }

    /// Ends all that looks at it.
    pub fn close(&self) {
        self.init.io().delete();
        *locked(&self.oom) = None;
        for exec in self.execs() {
            exec.process.io().delete();
        }
    }

    /// The init or an exec, to be looked at.
    ///
    /// # Errors
    /// There is no such exec.
    pub fn with<T>(&self, exec_id: &str, look: impl FnOnce(&Process) -> T) -> Answer<T> {
        if exec_id.is_empty() { Ok(look(&self.init)) } else { Ok(look(&self.exec(exec_id)?.process)) }
    }

    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }
}
