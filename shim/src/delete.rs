//! `delete`: what a shim that died, or never came to life, has left behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::protobuf::{Message, MessageField};
use linux::absent::absent;

use crate::events::timestamp;
use crate::flags::Flags;
use crate::reaper::KILLED;
use crate::runtime::{INIT_PID_FILE, Runtime};
use crate::socket::listens;
use crate::{rootfs, stdout};

/// How often, and how far apart, it is asked whether the pod has a shim that lives.
const TRIES: u32 = 10;
const RETRY_DELAY: Duration = Duration::from_millis(5);

pub fn delete(flags: &Flags) -> Result<()> {
    let bundle = bundle(flags)?;
    if let Err(e) = remove(&bundle, &flags.id) {
        // containerd goes on with what it can do itself.
        eprintln!("containerd-shim-ampoule-v2: clean up after {}: {e:#}", flags.id);
    }
    let response = DeleteResponse {
        pid: pid(&bundle),
        exit_status: KILLED,
        exited_at: MessageField::some(timestamp(SystemTime::now())),
        ..Default::default()
    };
    stdout::write(&response.write_to_bytes()?)
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
    let deleted = Runtime::load(bundle).and_then(|runtime| {
        // Nothing was created.
        let Some(runtime) = runtime else { return Ok(()) };
        let mut call = runtime.call(bundle, "delete");
        call.command.args(["--force", id]);
        Ok(call.run_alone()?)
    });
    let unmounted = rootfs::detach(&bundle.join("rootfs"));
    let forgotten = forget_socket(&bundle.join("address"));
    deleted.and(unmounted).and(forgotten)
}

/// The pod's socket, when no other container of it has a shim there any more.
fn forget_socket(address: &Path) -> Result<()> {
    let text = absent(fs::read_to_string(address)).with_context(|| format!("read {}", address.display()))?;
    let text = text.unwrap_or_default();
    let Some(socket) = text.trim().strip_prefix("unix://").map(Path::new) else { return Ok(()) };
    for _ in 0..TRIES {
        if !listens(socket)? {
            absent(fs::remove_file(socket)).with_context(|| format!("remove {}", socket.display()))?;
            break;
        }
        // A call that it had just begun holds the socket until it dies with it.
        std::thread::sleep(RETRY_DELAY);
    }
    Ok(())
}

/// 0, as for a container without an init, where it can't be told: the response is the same but for this.
fn pid(bundle: &Path) -> u32 {
    // As said above.
    let text = fs::read_to_string(bundle.join(INIT_PID_FILE)).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}
