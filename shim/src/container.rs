//! A container: its init, its execs, and what is known of them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use cgroup::Cgroup;
use containerd_shim_protos::shim::oci;
use interface::id::Id;

use crate::bundle::Config;
use crate::events::Events;
use crate::log;
use crate::oom::Oom;
use crate::process::{Method, Process, ProcessRef};
use crate::rpc_error::{RpcError, RpcResult};
use crate::runtime::{Call, Runtime};
use crate::stdio::StdioConfig;

/// A container.
pub struct Container {
    pub id: String,
    pub bundle: PathBuf,
    /// Where the shim's own files are.
    pub shim_dir: PathBuf,
    pub runtime: Runtime,
    pub options: oci::Options,
    pub init: Arc<Process>,
    /// Where to restore it from, when it is started.
    pub checkpoint: Option<PathBuf>,
    pub paused: AtomicBool,
    /// Whether the end of its init is the end of all its processes.
    pub has_own_pid_namespace: bool,
    execs: Mutex<HashMap<String, Arc<Exec>>>,
    /// Known once it has an init.
    cgroups: OnceLock<Vec<PathBuf>>,
    oom: Mutex<Option<Oom>>,
}

/// One more process of a container.
pub struct Exec {
    pub process: Arc<Process>,
    /// What to run, as config.json's `process`.
    pub spec: Vec<u8>,
}

/// Whoever panics ends the program.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Container {
    pub fn new(
        id: &str,
        [bundle, shim_dir]: [&Path; 2],
        runtime: Runtime,
        options: oci::Options,
        init: Process,
        config: &Config,
        checkpoint: Option<PathBuf>,
    ) -> Container {
        Container {
            id: id.to_owned(),
            bundle: bundle.to_owned(),
            shim_dir: shim_dir.to_owned(),
            runtime,
            options,
            init: Arc::new(init),
            checkpoint,
            paused: AtomicBool::new(false),
            has_own_pid_namespace: config.has_own_pid_namespace(),
            execs: Mutex::default(),
            cgroups: OnceLock::new(),
            oom: Mutex::default(),
        }
    }

    /// The container has an init: learns its cgroups, and watches for OOM kills. Without either it runs as well.
    pub fn has_init(&self, pid: i32, events: &Arc<Events>) {
        let cgroups = match cgroup::probe::container_cgroups(pid) {
            Ok(cgroups) => cgroups,
            Err(e) => return log::warning(format_args!("look for the cgroups of {}: {e:#}", self.id)),
        };
        match Oom::watch(&self.id, &cgroups, events) {
            Ok(oom) => *locked(&self.oom) = oom,
            Err(e) => log::warning(format_args!("watch for OOM kills of {}: {e:#}", self.id)),
        }
        // A restored container has an init once only, too.
        let _ = self.cgroups.set(cgroups);
    }

    /// # Errors
    /// It has no init yet, or its cgroups can't be told from the host's.
    pub fn cgroups(&self) -> RpcResult<&[PathBuf]> {
        let cgroups = self.cgroups.get().filter(|dirs| !dirs.is_empty());
        Ok(cgroups.ok_or_else(|| RpcError::not_found(format!("{} has no cgroup of its own", self.id)))?)
    }

    /// The pids of all its processes; without a cgroup, of those that the shim started.
    ///
    /// # Errors
    /// A list that can't be read.
    pub fn pids(&self) -> RpcResult<Vec<i32>> {
        match self.cgroups() {
            Ok(cgroups) => Ok(Cgroup::new(cgroups.to_vec()).processes()?),
            Err(_) => {
                let execs = self.execs();
                let all = [&self.init].into_iter().chain(execs.iter().map(|exec| &exec.process));
                Ok(all.filter_map(|process| process.running_pid()).collect())
            }
        }
    }

    /// Its execs.
    pub fn execs(&self) -> Vec<Arc<Exec>> {
        locked(&self.execs).values().cloned().collect()
    }

    /// Adds an exec that waits to be started.
    ///
    /// # Errors
    /// The id is invalid or taken, or the container has ended.
    pub fn add_exec(&self, exec_id: &str, stdio: StdioConfig, spec: Vec<u8>) -> RpcResult<()> {
        Id::new(exec_id).map_err(|e| RpcError::invalid_argument(e.to_string()))?;
        self.init.check(Method::Exec)?;
        let mut execs = locked(&self.execs);
        if execs.contains_key(exec_id) {
            return Err(RpcError::already_exists(format!("exec {exec_id:?} of {}: already exists", self.id)));
        }
        let which = ProcessRef::Exec(exec_id.to_owned());
        let process = Arc::new(Process::new(&self.id, which, stdio, Default::default(), 0));
        execs.insert(exec_id.to_owned(), Arc::new(Exec { process, spec }));
        Ok(())
    }

    /// # Errors
    /// There is no such exec.
    pub fn exec(&self, exec_id: &str) -> RpcResult<Arc<Exec>> {
        let found = locked(&self.execs).get(exec_id).cloned();
        found.ok_or_else(|| RpcError::not_found(format!("exec {exec_id:?} of {} not found", self.id)))
    }

    /// Publishes the OOM kills of which it hasn't been told yet; `killed` as in [`Oom::publish_now`].
    pub fn publish_oom(&self, killed: bool) {
        if let Some(oom) = &*locked(&self.oom) {
            oom.publish_now(killed);
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

    /// # Errors
    /// There is no such exec.
    pub fn process(&self, which: &ProcessRef) -> RpcResult<Arc<Process>> {
        match which {
            ProcessRef::Init => Ok(self.init.clone()),
            ProcessRef::Exec(id) => Ok(self.exec(id)?.process.clone()),
        }
    }

    /// A call of its runtime; the id is still to be added.
    pub fn call(&self, verb: &str) -> Call {
        self.runtime.call(&self.shim_dir, verb)
    }

    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }
}
