//! A connection to a message bus, for one piece of work that has an end in time.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr, setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::wire::{self, Call, Message, Writer};

/// The bus itself, among those on it.
const BUS: Call<'static> = Call {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
    member: "",
    signature: "",
    body: Vec::new(),
};

/// A line of the handshake is not longer.
const MAX_LINE: usize = 16 << 10;

/// A connection to a message bus.
pub struct Bus {
    stream: UnixStream,
    serial: u32,
    end: Instant,
    /// Signals that came while an answer was waited for.
    signals: Vec<(String, Vec<String>)>,
}

/// An answer that is an error of the other side's.
#[derive(Debug)]
pub struct Refusal {
    call: String,
    name: String,
    words: String,
}

impl Refusal {
    /// By the last part of its name.
    pub fn is(&self, name: &str) -> bool {
        self.name.rsplit('.').next() == Some(name)
    }

    /// systemd says in words only which property it doesn't take.
    pub fn mentions(&self, property: &str) -> bool {
        self.words.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == property)
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "systemd: {}: {}", self.call, self.words)?;
        let name = self.name.strip_prefix("org.freedesktop.DBus.Error.").unwrap_or(&self.name);
        if name == "ServiceUnknown" || name.starts_with("Spawn.") {
            f.write_str(" (systemd does not run here; the cgroupfs driver works without it)")?;
        }
        if self.words.is_empty() { f.write_str(name) } else { Ok(()) }
    }
}

impl std::error::Error for Refusal {}

impl Bus {
    /// Connects to the user's own bus or to the system's. All that is done with it must be done in `limit`.
    pub fn connect(user: bool, limit: Duration) -> Result<Bus> {
        let end = Instant::now() + limit;
        let address = address(user, |name| std::env::var(name).ok())?;
        let stream = open(&address, end).with_context(|| {
            format!(
                "connect to {}: is systemd running here{}? The cgroupfs driver works without it",
                address.trim_start_matches('\0'),
                if user { " for this user (loginctl enable-linger)" } else { "" }
            )
        })?;
        let mut bus = Bus { stream, serial: 0, end, signals: Vec::new() };
        bus.say_who().context("log in to the bus")?;
        bus.call(Call { member: "Hello", ..BUS })??;
        Ok(bus)
    }

    /// From now on.
    pub fn must_end_in(&mut self, limit: Duration) {
        self.end = Instant::now() + limit;
    }

    /// EXTERNAL: the bus asks the kernel who we are, so no id is told that a user namespace would make wrong.
    fn say_who(&mut self) -> Result<()> {
        self.write(b"\0AUTH EXTERNAL\r\nDATA\r\n")?;
        loop {
            let line = self.line()?;
            match line.split(' ').next() {
                Some("DATA") => {}
                Some("OK") => return self.write(b"BEGIN\r\n"),
                _ => bail!("the bus answered {line:?}"),
            }
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.read(&mut byte)?;
            line.push(byte[0]);
            if line.len() > MAX_LINE {
                bail!("the bus sent a line without an end");
            }
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// Asks for signals.
    pub fn listen(&mut self, rule: &str) -> Result<()> {
        let mut out = Writer::default();
        out.text(rule);
        self.call(Call { member: "AddMatch", signature: "s", body: out.bytes, ..BUS })??;
        Ok(())
    }

    /// Makes a call and waits for the answer: its texts.
    pub fn call(&mut self, call: Call<'_>) -> Result<Result<Vec<String>, Refusal>> {
        self.serial += 1;
        let serial = self.serial;
        let named = || format!("systemd: {}", call.member);
        self.write(&call.encode(serial)).with_context(named)?;
        loop {
            match self.receive().with_context(named)? {
                Message::Reply { to, texts } if to == serial => return Ok(Ok(texts)),
                Message::Refusal { to, name, words } if to == serial => {
                    return Ok(Err(Refusal { call: call.member.to_owned(), name, words }));
                }
                Message::Signal { member, texts } => self.signals.push((member, texts)),
                _ => {}
            }
        }
    }

    /// Waits for the signal that `wanted` finds something in.
    pub fn signal<T>(&mut self, name: &str, wanted: impl Fn(&[String]) -> Option<T>) -> Result<T> {
        let found = |member: &str, texts: &[String]| if member == name { wanted(texts) } else { None };
        if let Some(answer) = self.signals.iter().find_map(|(member, texts)| found(member, texts)) {
            return Ok(answer);
        }
        loop {
            if let Message::Signal { member, texts } =
                self.receive().with_context(|| format!("systemd: {name}"))?
                && let Some(answer) = found(&member, &texts)
            {
                return Ok(answer);
            }
        }
    }

    fn receive(&mut self) -> Result<Message> {
        let mut prefix = [0; wire::PREFIX];
        self.read(&mut prefix)?;
        let mut bytes = prefix.to_vec();
        bytes.resize(wire::whole_length(&prefix)?.max(wire::PREFIX), 0);
        self.read(&mut bytes[wire::PREFIX..])?;
        wire::decode(&bytes)
    }

    fn read(&mut self, mut into: &mut [u8]) -> Result<()> {
        while !into.is_empty() {
            self.stream.set_read_timeout(Some(left(self.end)?))?;
            match self.stream.read(into) {
                Ok(0) => bail!("the bus hung up"),
                Ok(n) => into = &mut into[n..],
                Err(e) if is_timeout(&e) => {}
                Err(e) => return Err(e).context("read"),
            }
        }
        Ok(())
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            self.stream.set_write_timeout(Some(left(self.end)?))?;
            match self.stream.write(bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(e) if is_timeout(&e) => {}
                Err(e) => return Err(e).context("write"),
            }
        }
        Ok(())
    }
}

/// The time that is left; never zero, which would mean for ever.
fn left(end: Instant) -> Result<Duration> {
    match end.checked_duration_since(Instant::now()) {
        Some(left) if left > Duration::from_millis(1) => Ok(left),
        _ => bail!("no answer in time: systemd or its bus hangs (systemctl status shows whether)"),
    }
}

/// The kernel's answer when a socket's time is up, and when a signal came in between.
fn is_timeout(e: &std::io::Error) -> bool {
    matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

fn open(address: &str, end: Instant) -> Result<UnixStream> {
    // A bus that accepts nobody any more makes connect(2) wait, as long as this says (unix(7)).
    let limit = TimeVal::milliseconds(left(end)?.as_millis() as i64);
    Ok(connect(address, limit)?)
}

fn connect(address: &str, limit: TimeVal) -> io::Result<UnixStream> {
    let socket = socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::SendTimeout, &limit)?;
    let address = match address.strip_prefix('\0') {
        Some(name) => UnixAddr::new_abstract(name.as_bytes())?,
        None => UnixAddr::new(Path::new(address))?,
    };
    socket::connect(socket.as_raw_fd(), &address)?;
    Ok(socket.into())
}

/// Where the bus listens: a path, or after a NUL an abstract name. `env` looks up the environment.
fn address(user: bool, env: impl Fn(&str) -> Option<String>) -> Result<String> {
    let variable = if user { "DBUS_SESSION_BUS_ADDRESS" } else { "DBUS_SYSTEM_BUS_ADDRESS" };
    if let Some(list) = env(variable).filter(|list| !list.is_empty()) {
        return list.split(';').find_map(unix_address).with_context(|| {
            format!(
                "{variable}={list}: expected unix:path=SOCKET; other kinds of addresses are not spoken here"
            )
        });
    }
    match (user, env("XDG_RUNTIME_DIR")) {
        (false, _) => Ok("/run/dbus/system_bus_socket".to_owned()),
        (true, Some(dir)) => Ok(format!("{dir}/bus")),
        (true, None) => Err(anyhow!(
            "neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR tells where this user's bus is"
        )),
    }
}

/// D-Bus specification, "Server Addresses": `unix:path=/a%20b,guid=…`.
fn unix_address(address: &str) -> Option<String> {
    let pairs = address.strip_prefix("unix:")?;
    pairs.split(',').filter_map(|pair| pair.split_once('=')).find_map(|(key, value)| match key {
        "path" => unescape(value),
        "abstract" => unescape(value).map(|name| format!("\0{name}")),
        _ => None,
    })
}

fn unescape(value: &str) -> Option<String> {
    let mut parts = value.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bus_is_where_the_environment_says() {
        let at = |user, variables: &[(&str, &str)]| {
            let env = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
            address(user, env).map_err(|e| e.to_string())
        };
        let session = |value| at(true, &[("DBUS_SESSION_BUS_ADDRESS", value), ("XDG_RUNTIME_DIR", "/x")]);
        assert_eq!(at(false, &[]).unwrap(), "/run/dbus/system_bus_socket");
        assert_eq!(at(false, &[("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/b")]).unwrap(), "/b");
        assert_eq!(at(true, &[("XDG_RUNTIME_DIR", "/run/user/7")]).unwrap(), "/run/user/7/bus");
        assert_eq!(session("").unwrap(), "/x/bus");
        assert_eq!(session("unix:path=/a%20b,guid=1f").unwrap(), "/a b");
        assert_eq!(session("tcp:host=h;unix:guid=0,abstract=/tmp/x").unwrap(), "\0/tmp/x");
        assert!(session("tcp:host=h").unwrap_err().contains("tcp:host=h"));
        assert!(session("unix:path=/a%2").is_err());
        assert!(at(true, &[]).unwrap_err().contains("XDG_RUNTIME_DIR"));
    }

    #[test]
    fn a_refusal_names_the_call_and_is_known_by_its_name() {
        let refusal = Refusal {
            call: "StartTransientUnit".into(),
            name: "org.freedesktop.DBus.Error.PropertyReadOnly".into(),
            words: "Cannot set property CollectMode, or unknown property.".into(),
        };
        assert!(refusal.is("PropertyReadOnly") && !refusal.is("ReadOnly"));
        assert!(refusal.mentions("CollectMode") && !refusal.mentions("Collect"));
        assert!(refusal.to_string().starts_with("systemd: StartTransientUnit: Cannot set property"));
    }

    /// Reads what a silent peer would have to say, until the end.
    #[test]
    fn a_bus_that_says_nothing_is_given_up() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let end = Instant::now() + Duration::from_millis(50);
        let mut bus = Bus { stream: ours, serial: 0, end, signals: Vec::new() };
        let error = format!("{:#}", bus.call(Call { member: "Hello", ..BUS }).unwrap_err());
        assert_eq!(
            error,
            "systemd: Hello: no answer in time: systemd or its bus hangs (systemctl status shows whether)"
        );
    }

    #[test]
    fn a_bus_that_talks_nonsense_or_goes_is_given_up() {
        for (said, heard) in [(&b"nonsense\r\n"[..], "nonsense"), (b"", "hung up")] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            theirs.write_all(said).unwrap();
            theirs.shutdown(std::net::Shutdown::Write).unwrap();
            let end = Instant::now() + Duration::from_secs(5);
            let mut bus = Bus { stream: ours, serial: 0, end, signals: Vec::new() };
            assert!(format!("{:#}", bus.say_who().unwrap_err()).contains(heard));
        }
    }
}
