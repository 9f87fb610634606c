//! Publishes the kernel's OOM kills of processes of a container.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use cgroup::oom::OomWatch;
use containerd_shim_protos::events::task::TaskOOM;
use linux::watch::watched;
use nix::poll::PollFlags;
use std::os::fd::AsFd;
use tokio::io::Interest;
use tokio::task::AbortHandle;

use crate::events::Events;
use crate::log;

/// A watch on one container, which ends with it.
pub struct Oom {
    id: String,
    events: Arc<Events>,
    watch: Arc<Mutex<OomWatch>>,
    task: AbortHandle,
}

impl Oom {
    /// Watches from now on. None: no cgroup of the container's has the memory controller.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn watch(id: &str, cgroups: &[PathBuf], events: &Arc<Events>) -> Result<Option<Oom>> {
        let Some(watch) = OomWatch::on(cgroups)? else { return Ok(None) };
        let polled = watch.poll_fd().events();
        let interest = match polled.contains(PollFlags::POLLPRI) {
            true => Interest::PRIORITY,
            false => Interest::READABLE,
        };
        let fd = watch.poll_fd().as_fd().try_clone_to_owned()?;
        let fd = watched(fd, interest)?;
        let watch = Arc::new(Mutex::new(watch));
        let (name, queue, source) = (id.to_owned(), events.clone(), watch.clone());
        let task = tokio::spawn(async move {
            while let Ok(mut ready) = fd.ready(interest).await {
                ready.clear_ready();
                match lock(&source).new_kills() {
                    Ok(Some(kills)) => publish(&name, &queue, kills),
                    Ok(None) => return,
                    Err(e) => return log::warning(format_args!("watch for OOM kills of {name}: {e:#}")),
                }
            }
        });
        Ok(Some(Oom { id: id.to_owned(), events: events.clone(), watch, task: task.abort_handle() }))
    }

    /// Publishes what there is now. `killed`: the init has died of a SIGKILL, which its cgroup may not have outlived.
    pub fn publish_now(&self, killed: bool) {
        let mut watch = lock(&self.watch);
        let kills = match watch.new_kills() {
            Ok(None) if killed => watch.unread(),
            kills => kills.map(|kills| kills.unwrap_or(0)),
        };
        match kills {
            Ok(kills) => publish(&self.id, &self.events, kills),
            Err(e) => log::warning(format_args!("watch for OOM kills of {}: {e:#}", self.id)),
        }
    }
}

impl Drop for Oom {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whoever panics ends the program.
fn lock(watch: &Mutex<OomWatch>) -> MutexGuard<'_, OomWatch> {
    watch.lock().unwrap_or_else(PoisonError::into_inner)
}

fn publish(id: &str, events: &Events, kills: u64) {
    if kills > 0 {
        events.publish("oom", &TaskOOM { container_id: id.to_owned(), ..Default::default() });
    }
}
