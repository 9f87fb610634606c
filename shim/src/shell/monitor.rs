//! `monitor`, which stays in the background: a shim for one container, which ends with it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use super::container_dir::ContainerDir;
use crate::events::Events;
use crate::reaper::Reaper;
use crate::shim::Shim;
use crate::{lifecycle, log, serve, stdio};

/// How long `run` may take to ask for the container. It may have been killed.
const CREATE_TIMEOUT: Duration = Duration::from_secs(60);

pub fn monitor(id: &str) -> Result<()> {
    let dir = ContainerDir::open(id)?;
    // The shell's hangup is not ours.
    nix::unistd::setsid().context("leave the shell's session")?;
    nix::sys::prctl::set_child_subreaper(true).context("become the container's subreaper")?;
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    executor.block_on(async {
        let reaper = Reaper::start()?;
        let mut shim = Shim::new("", reaper, Events::start("", None));
        shim.dir = Some(dir.path().to_owned());
        let shim = Arc::new(shim);
        let socket = dir.file("socket");
        let ours = shim.clone();
        tokio::spawn(async move {
            if let Err(e) = until_exit(&ours, &dir).await {
                log::warning(format_args!("{}: {e:#}", dir.id));
            }
            ours.shutdown.notify_one();
        });
        serve::until_end(&shim, &socket).await
    })
}

/// Waits for the container's end, removes it and writes its exit code down.
async fn until_exit(shim: &Arc<Shim>, dir: &ContainerDir) -> Result<()> {
    tokio::time::timeout(CREATE_TIMEOUT, shim.added.notified())
        .await
        .context("run did not create the container")?;
    let container = shim.container(&dir.id)?;
    let exit = container.init.wait().await;
    if !container.init.was_started() {
        // `run` reports why, and removes it.
        return Ok(());
    }
    lifecycle::delete(shim, &container).await.context("delete")?;
    drop(container);
    stdio::all_done().await;
    dir.write_exit(u8::try_from(exit.status).unwrap_or(u8::MAX))
}
