//! What stays in the background: a shim for one container, which ends with it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use super::home::Home;
use crate::events::Events;
use crate::reaper::Reaper;
use crate::shim::Shim;
use crate::{lifecycle, log, serve, stdio};

/// How long `run` may take to ask for the container. It may have been killed.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn keep(id: &str) -> Result<()> {
    let home = Home::open(id)?;
    // The shell's hangup is not ours.
    nix::unistd::setsid().context("leave the shell's session")?;
    nix::sys::prctl::set_child_subreaper(true).context("become the container's subreaper")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let reaper = Reaper::start()?;
        let mut shim = Shim::new("", reaper, Events::start("", None));
        shim.dir = Some(home.dir().to_owned());
        let shim = Arc::new(shim);
        let socket = home.path("socket");
        let ours = shim.clone();
        tokio::spawn(async move {
            if let Err(e) = until_end(&ours, &home).await {
                log::warning(format_args!("{}: {e:#}", home.id));
            }
            ours.shutdown.notify_one();
        });
        serve::attend(&shim, &socket).await
    })
}

/// Waits for the container's end, removes it and writes its exit code down.
async fn until_end(shim: &Arc<Shim>, home: &Home) -> Result<()> {
    tokio::time::timeout(PATIENCE, shim.added.notified()).await.context("nobody asked for the container")?;
    let container = shim.container(&home.id).map_err(|_| anyhow::anyhow!("it is gone already"))?;
    let exit = container.init.wait().await;
    if !container.init.was_started() {
        // `run` reports why, and removes it.
        return Ok(());
    }
    lifecycle::delete(shim, &container).await.map_err(|e| anyhow::anyhow!("delete: {e:?}"))?;
    drop(container);
    stdio::all_done().await;
    home.ended(u8::try_from(exit.status).unwrap_or(u8::MAX))
}
