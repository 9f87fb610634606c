//! `delete`: what a shim that died, or never came to life, has left behind.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::protobuf::{Message, MessageField};

use crate::bootstrap;
use crate::engine::Engine;
use crate::events::timestamp;
use crate::flags::Flags;
use crate::reaper::KILLED;
use crate::rootfs;

pub fn delete(flags: &Flags) -> Result<()> {
    let bundle = bundle(flags)?;
    if let Err(e) = remove(&bundle, &flags.id) {
        // containerd goes on with what it can do itself.
        eprintln!("containerd-shim-ampoule-v2: clean up after {}: {e:#}", flags.id);
    }
    let answer = DeleteResponse {
        pid: pid(&bundle),
        exit_status: KILLED,
        exited_at: MessageField::some(timestamp(SystemTime::now())),
        ..Default::default()
    };
    bootstrap::print(&answer.write_to_bytes()?)
}

/// The bundle is the working directory, or beside it.
fn bundle(flags: &Flags) -> Result<PathBuf> {
    if let Some(bundle) = &flags.bundle {
        return Ok(bundle.clone());
    }
    let here = std::env::current_dir().context("find the bundle")?;
    Ok(here.parent().unwrap_or(&here).join(&flags.id))
}

fn remove(bundle: &Path, id: &str) -> Result<()> {
    // Without its note, nothing was created.
    let deleted = Engine::load(bundle).map_or(Ok(()), |engine| {
        let mut call = engine.call(bundle, "delete");
        call.command.args(["--force", id]);
        call.run_alone()
    });
    let unmounted = rootfs::detach(&bundle.join("rootfs"));
    let address = fs::read_to_string(bundle.join("address")).unwrap_or_default();
    if let Some(socket) = address.trim().strip_prefix("unix://")
        && UnixStream::connect(socket).is_err()
    {
        let _ = fs::remove_file(socket);
    }
    deleted.and(unmounted)
}

fn pid(bundle: &Path) -> u32 {
    let text = fs::read_to_string(bundle.join("init.pid")).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}
