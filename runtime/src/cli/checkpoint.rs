//! `ampoule checkpoint`, and what it has in common with `ampoule restore`.

use std::fs::{File, OpenOptions};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use super::Context;
use crate::container::criu::{CgroupMode, Wishes, program};
use crate::launch::Images;
use crate::lifecycle::{self, CheckpointArgs};

/// What CRIU is told at either end.
#[derive(clap::Args)]
pub(super) struct Criu {
    /// Directory of the image files
    #[arg(long, value_name = "DIR", default_value = "checkpoint")]
    pub(super) image_path: PathBuf,
    /// Directory of CRIU's log and work files [default: that of the image files]
    #[arg(long, value_name = "DIR")]
    work_path: Option<PathBuf>,
    /// Allow open TCP connections
    #[arg(long)]
    tcp_established: bool,
    /// Allow external unix sockets
    #[arg(long)]
    ext_unix_sk: bool,
    /// Allow shell jobs: a session and a terminal of the caller's
    #[arg(long)]
    shell_job: bool,
    /// Allow file locks
    #[arg(long)]
    file_locks: bool,
    /// How cgroup properties are restored: soft, full, strict or ignore [default: soft]
    #[arg(long, value_name = "MODE", default_value = "", hide_default_value = true)]
    manage_cgroups_mode: String,
    /// Namespace to leave empty: only network, which is left empty anyway (accepted for runc's callers)
    #[arg(long, value_name = "KIND")]
    empty_ns: Vec<String>,
    /// Auto-deduplicate memory images
    #[arg(long)]
    auto_dedup: bool,
    /// Use lazy migration (userfaultfd)
    #[arg(long)]
    lazy_pages: bool,
}

impl Criu {
    /// The same as the rest of the runtime knows it.
    pub(super) fn images(&self, context: &Context) -> Result<Images> {
        if let Some(kind) = self.empty_ns.iter().find(|kind| *kind != "network") {
            bail!("--empty-ns: {kind:?}, expected network: CRIU restores no other namespace empty");
        }
        let wishes = Wishes {
            tcp_established: self.tcp_established,
            ext_unix_sk: self.ext_unix_sk,
            shell_job: self.shell_job,
            file_locks: self.file_locks,
            auto_dedup: self.auto_dedup,
            lazy_pages: self.lazy_pages,
            cgroup_mode: CgroupMode::parse(&self.manage_cgroups_mode)?,
            ..Wishes::default()
        };
        let work = self.work_path.as_ref().unwrap_or(&self.image_path).clone();
        Ok(Images {
            images: self.image_path.clone(),
            work,
            program: program(context.criu.as_deref())?,
            wishes,
        })
    }
}

#[derive(clap::Args)]
pub(super) struct Checkpoint {
    #[command(flatten)]
    criu: Criu,
    /// Image files of the pre-dump, relative to the new ones: only what changed since is saved
    #[arg(long, value_name = "DIR")]
    parent_path: Option<String>,
    /// Leave the container running
    #[arg(long)]
    leave_running: bool,
    /// Skip in-flight TCP connections
    #[arg(long)]
    tcp_skip_in_flight: bool,
    /// Allow unlinked files, which get a name again
    #[arg(long)]
    link_remap: bool,
    /// File descriptor to write a NUL byte to once the page server is ready (--lazy-pages)
    #[arg(long, value_name = "FD", allow_hyphen_values = true)]
    status_fd: Option<i64>,
    /// ADDRESS:PORT of the page server
    #[arg(long, value_name = "ADDRESS:PORT")]
    page_server: Option<String>,
    /// Pre-dump: save memory only, and leave the container running
    #[arg(long)]
    pre_dump: bool,
    /// Container ID
    id: String,
}

pub(super) fn run(context: &Context, args: Checkpoint) -> Result<ExitCode> {
    checkpoint(context, &args).with_context(|| format!("checkpoint {}", args.id))?;
    Ok(ExitCode::SUCCESS)
}

fn checkpoint(context: &Context, args: &Checkpoint) -> Result<()> {
    let locked = context.open(&args.id)?.lock()?;
    let mut images = args.criu.images(context)?;
    let wishes = &mut images.wishes;
    wishes.leave_running = args.leave_running;
    wishes.tcp_skip_in_flight = args.tcp_skip_in_flight;
    wishes.link_remap = args.link_remap;
    wishes.page_server = args.page_server.as_deref().map(page_server).transpose()?;
    wishes.parent = args.parent_path.clone();
    if let Some(parent) = args.parent_path.as_ref().filter(|path| path.starts_with('/')) {
        bail!("--parent-path {parent}: must be relative, as seen from --image-path");
    }
    let status = status(args.status_fd)?;
    let (rootless, pre_dump) = (context.rootless, args.pre_dump);
    lifecycle::checkpoint(locked, &context.log, CheckpointArgs { images, rootless, pre_dump, status })
}

fn page_server(text: &str) -> Result<(String, u16)> {
    let parts = text.rsplit_once(':').and_then(|(address, port)| Some((address, port.parse().ok()?)));
    match parts {
        Some((address, port)) if !address.is_empty() && port != 0 => {
            // As IPv6 addresses are written where a port follows.
            Ok((address.trim_start_matches('[').trim_end_matches(']').to_owned(), port))
        }
        _ => bail!("--page-server {text:?}: expected ADDRESS:PORT"),
    }
}

/// The caller's descriptor. The one that was inherited is closed: who waits for its end must not wait for ours.
fn status(fd: Option<i64>) -> Result<Option<File>> {
    // runc's default is -1.
    let Some(fd) = fd.and_then(|fd| i32::try_from(fd).ok()).filter(|fd| *fd >= 0) else { return Ok(None) };
    let file = OpenOptions::new().write(true).open(format!("/proc/self/fd/{fd}"));
    let file = file.with_context(|| format!("--status-fd {fd}"))?;
    if fd > 2 {
        nix::unistd::close(fd).with_context(|| format!("--status-fd {fd}"))?;
    }
    Ok(Some(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_server_has_an_address_and_a_port() {
        assert_eq!(page_server("10.0.0.1:27").unwrap(), ("10.0.0.1".to_owned(), 27));
        assert_eq!(page_server("[::1]:65535").unwrap(), ("::1".to_owned(), 65535));
        for text in ["", "host", ":1", "host:", "host:0", "host:65536", "host:x"] {
            assert!(page_server(text).is_err(), "{text:?}");
        }
    }
}
