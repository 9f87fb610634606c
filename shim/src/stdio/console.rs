//! The terminal of a process: the runtime makes it and sends the pty master through a socket.

use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use linux::absent::absent;
use linux::{socket, tty};

/// A pty master.
pub struct Console(OwnedFd);

/// A socket to receive it through, in the bundle and so in nobody else's reach.
pub struct ConsoleSocket {
    listener: UnixListener,
    /// The bundle's own path may be longer than a socket's can be (108 bytes); by way of /proc it never is.
    dir: File,
    name: String,
    path: PathBuf,
}

impl Console {
    /// Makes the socket.
    ///
    /// # Errors
    /// The bundle can't be written to.
    pub fn socket(bundle: &Path) -> Result<ConsoleSocket> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("console-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let path = bundle.join(&name);
        absent(fs::remove_file(&path)).with_context(|| format!("remove {}", path.display()))?;
        let dir = File::open(bundle).with_context(|| format!("open {}", bundle.display()))?;
        let listener = UnixListener::bind(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()))
            .with_context(|| format!("make the console socket {}", path.display()))?;
        listener.set_nonblocking(true)?;
        Ok(ConsoleSocket { listener, dir, name, path })
    }

    /// A descriptor of the master for a copy. (Copies share the file's status: all of them are non-blocking.)
    pub fn master(&self) -> Result<OwnedFd> {
        Ok(self.0.try_clone()?)
    }

    /// Sets its size in characters.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn resize(&self, width: u16, height: u16) -> Result<()> {
        tty::resize(&self.0, (height, width)).context("resize the terminal")
    }
}

impl ConsoleSocket {
    /// The path for the runtime, which is in this same namespace of mounts and of processes.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}/{}", std::process::id(), self.dir.as_raw_fd(), self.name).into()
    }

    /// Takes the terminal out, once the runtime has done its work.
    ///
    /// # Errors
    /// The runtime sent none.
    pub fn receive(self) -> Result<Console> {
        let receive = || {
            let (stream, _) = self.listener.accept()?;
            stream.set_nonblocking(true)?;
            let message = socket::receive(&stream, &mut [0; 4096]).context("recvmsg")?;
            message.fd.context("a message without a descriptor")
        };
        let receive: Result<_> = receive();
        receive.map(Console).context("the runtime sent no terminal")
    }
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        // The bundle goes as a whole.
        let _ = fs::remove_file(&self.path);
    }
}
