//! The command line that containerd gives every shim, which is Go's: `-flag value`, `-flag=value`, `--flag`.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// What containerd wants the shim to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Start,
    Delete,
    Version,
    Info,
    /// Without a verb: what `start` starts.
    Serve,
}

/// containerd's words. It also has some for shims of other kinds, which are accepted and ignored.
#[derive(Debug, PartialEq, Eq)]
pub struct Flags {
    pub action: Action,
    pub namespace: String,
    pub id: String,
    /// containerd's GRPC socket: it tells one containerd from another.
    pub address: String,
    pub bundle: Option<PathBuf>,
    pub socket: Option<PathBuf>,
    pub debug: bool,
}

/// Flags that are followed by a value.
const VALUED: [&str; 7] =
    ["namespace", "id", "address", "publish-binary", "bundle", "socket", "debug-socket"];

impl Flags {
    /// # Errors
    /// A word that no containerd gives, or one that lacks its value.
    pub fn parse(words: impl Iterator<Item = OsString>) -> Result<Flags> {
        let mut flags = Flags {
            action: Action::Serve,
            namespace: String::new(),
            id: String::new(),
            address: String::new(),
            bundle: None,
            socket: None,
            debug: false,
        };
        let mut words = words.map(|word| word.into_string());
        while let Some(word) = words.next() {
            let word = word.ok().context("a flag that is not UTF-8")?;
            let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
                flags.action = match word.as_str() {
                    "start" => Action::Start,
                    "delete" => Action::Delete,
                    _ => bail!("{word:?}: expected start or delete"),
                };
                continue;
            };
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            if !VALUED.contains(&name) {
                flags.switch(name, value.as_deref() != Some("false"))?;
                continue;
            }
            let value = match value {
                Some(value) => value,
                None => {
                    words.next().and_then(Result::ok).with_context(|| format!("-{name} needs a value"))?
                }
            };
            flags.set(name, value);
        }
        Ok(flags)
    }

    fn switch(&mut self, name: &str, on: bool) -> Result<()> {
        match name {
            "debug" => self.debug = on,
            "v" | "version" if on => self.action = Action::Version,
            "info" if on => self.action = Action::Info,
            "v" | "version" | "info" => {}
            _ => bail!("unknown flag -{name}"),
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: String) {
        match name {
            "namespace" => self.namespace = value,
            "id" => self.id = value,
            "address" => self.address = value,
            "bundle" if !value.is_empty() => self.bundle = Some(value.into()),
            "socket" if !value.is_empty() => self.socket = Some(value.into()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Flags> {
        Flags::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn flags_are_read_in_all_the_ways_that_go_has() {
        let line = "-namespace k8s.io --address=/run/c.sock -publish-binary /usr/bin/containerd -id web \
                    -bundle /b -debug start";
        let flags = parse(line).unwrap();
        assert_eq!((flags.action, flags.debug), (Action::Start, true));
        assert_eq!((flags.namespace.as_str(), flags.id.as_str()), ("k8s.io", "web"));
        assert_eq!((flags.address.as_str(), flags.bundle), ("/run/c.sock", Some("/b".into())));
        assert_eq!(parse("-v").unwrap().action, Action::Version);
        assert_eq!(parse("-info").unwrap().action, Action::Info);
        assert_eq!(parse("-id x -debug=false").unwrap().action, Action::Serve);
        assert_eq!(parse("-id x delete").unwrap().action, Action::Delete);
    }

    #[test]
    fn words_that_no_containerd_gives_are_refused() {
        for line in ["-nonsense", "stop", "-id"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
