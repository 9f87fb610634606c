//! The server: one thread, until it has nothing left to look after and containerd says so.

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener as StdListener;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;

use anyhow::{Context, Result};
use containerd_shim_protos::ttrpc::r#async::Server;
use containerd_shim_protos::ttrpc::r#async::transport::Listener;
use linux::absent::absent;
use nix::unistd::geteuid;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use crate::events::Events;
use crate::flags::Flags;
use crate::reaper::Reaper;
use crate::shim::Shim;
use crate::{log, stdio, task};

/// containerd gives a shim 3 s to end.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Long enough for the last response to be read.
const SHUTDOWN_DELAY: Duration = Duration::from_millis(20);

pub fn serve(flags: &Flags) -> Result<()> {
    let socket = flags.socket.clone().context("-socket is missing: containerd calls `start` first")?;
    log::show_debug(flags.debug);
    // The bundle that it was started in may go before the pod does.
    std::env::set_current_dir("/").context("go to /")?;
    nix::sys::prctl::set_child_subreaper(true).context("become the containers' subreaper")?;
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    executor.block_on(async {
        let reaper = Reaper::start()?;
        let events = Events::start(&flags.namespace, std::env::var("TTRPC_ADDRESS").ok());
        let shim = Arc::new(Shim::new(&flags.namespace, reaper, events));
        until_end(&shim, &socket).await
    })
}

/// Answers calls at the socket, which is our stdin, until there is nothing left to do.
pub async fn until_end(shim: &Arc<Shim>, socket: &Path) -> Result<()> {
    let connections = Arc::new(Connections::default());
    let listener = Listener::new(OwnUserListener {
        listener: listener()?,
        connections: connections.clone(),
        retry: None,
    });
    let mut server = Server::new().add_listener(listener).register_service(task::services(shim));
    server.start().await?;
    tokio::select! {
        shutdown = until_shutdown(shim) => shutdown?,
        () = connections.until_idle(shim) => {
            log::warning(format_args!("shutting down: no container, and nobody has connected for {IDLE_TIMEOUT:?}"));
        },
    }
    // First, so that nobody finds a shim that is about to end.
    if let Err(e) = absent(std::fs::remove_file(socket)) {
        log::warning(format_args!("remove {}: {e}", socket.display()));
    }
    tokio::time::sleep(SHUTDOWN_DELAY).await;
    server.shutdown().await?;
    shim.events.flush(FLUSH_TIMEOUT).await;
    // What is still being read: readers that have gone away end their copies.
    stdio::all_done().await;
    Ok(())
}

/// The socket is our stdin; what the shim starts must not have it.
fn listener() -> Result<UnixListener> {
    let stdin: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
    nix::unistd::dup2_stdin(std::fs::File::open("/dev/null").context("open /dev/null")?)?;
    let listener = StdListener::from(stdin);
    listener.set_nonblocking(true).context("stdin is no socket")?;
    UnixListener::from_std(listener).context("listen at stdin")
}

/// Shut down, or told to end while there is nothing to look after. Its containers must not go with a shim that somebody
/// ends by hand.
async fn until_shutdown(shim: &Shim) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    loop {
        tokio::select! {
            () = shim.shutdown.notified() => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        if shim.is_empty() {
            return Ok(());
        }
        log::warning(format_args!("not shutting down: there are containers"));
    }
}

/// How long a shim without containers waits for anybody to speak to it. A containerd that was killed between `start`
/// and Create never comes back for it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Connections that are open.
#[derive(Default)]
struct Connections {
    count: AtomicUsize,
    closed: Notify,
}

impl Connections {
    /// Waits until nobody has come for long, and there is nothing to come for.
    async fn until_idle(&self, shim: &Shim) {
        loop {
            tokio::time::sleep(IDLE_TIMEOUT).await;
            if self.count.load(Ordering::Relaxed) == 0 && shim.is_empty() {
                return;
            }
            // No clock ticks while containers run.
            self.closed.notified().await;
        }
    }
}

/// One of them.
struct Connection {
    stream: UnixStream,
    connections: Arc<Connections>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.connections.count.fetch_sub(1, Ordering::Relaxed);
        self.connections.closed.notify_one();
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Connections of our own user's: the socket's mode keeps others out, and this those who got hold of it otherwise.
struct OwnUserListener {
    listener: UnixListener,
    connections: Arc<Connections>,
    /// Until when nobody is let in.
    retry: Option<Pin<Box<tokio::time::Sleep>>>,
}

/// How long a shim that can't take a connection, for lack of file descriptors say, leaves it waiting before it tries again. All
/// else that the shim does goes on.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

impl futures_core::Stream for OwnUserListener {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(retry) = &mut self.retry {
                ready!(retry.as_mut().poll(context));
                self.retry = None;
            }
            let stream = match ready!(self.listener.poll_accept(context)) {
                Ok((stream, _)) => stream,
                Err(e) => {
                    log::warning(format_args!("take a connection: {e}"));
                    self.retry = Some(Box::pin(tokio::time::sleep(ACCEPT_RETRY_DELAY)));
                    continue;
                }
            };
            match stream.peer_cred() {
                Ok(peer) if peer.uid() == geteuid().as_raw() || peer.uid() == 0 => {
                    self.connections.count.fetch_add(1, Ordering::Relaxed);
                    let connections = self.connections.clone();
                    return Poll::Ready(Some(Ok(Connection { stream, connections })));
                }
                _ => log::warning(format_args!("a connection of another user's was refused")),
            }
        }
    }
}
