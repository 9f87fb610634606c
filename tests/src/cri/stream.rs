//! What exec, attach and port-forward give: channels in a WebSocket, as clients of the kubelet's speak them.

use crate::engines::Node;
use crate::patience;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::Duration;
use tungstenite::{ClientRequestBuilder, Error, Message, WebSocket};

/// Each message's first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "their names say it")]
pub enum Channel {
    Stdin = 0,
    Stdout = 1,
    Stderr = 2,
    /// How it ended, as JSON.
    Status = 3,
    Resize = 4,
}

/// A connection, and what has come on each channel.
#[derive(Debug)]
pub struct Stream {
    socket: WebSocket<TcpStream>,
    received: BTreeMap<u8, Vec<u8>>,
    /// The other side has closed it.
    ended: bool,
}

impl Stream {
    /// Connects to what containerd gave as the place of a stream.
    pub fn open(node: &Node, url: &str) -> Self {
        // What containerd names for SPDY, which kubectl spoke before 1.31.
        let uri: tungstenite::http::Uri = url.replacen("http", "ws", 1).parse().expect("a URL");
        let address = uri.host().and_then(|host| host.parse().ok()).expect("an address");
        let socket = node.connect(address, uri.port_u16().expect("a port")).expect("connect to the stream");
        socket.set_read_timeout(Some(patience())).expect("set a time limit");
        let request = ClientRequestBuilder::new(uri).with_sub_protocol("v4.channel.k8s.io");
        let (socket, _) = tungstenite::client(request, socket).unwrap_or_else(|e| panic!("open {url}: {e}"));
        Self { socket, received: BTreeMap::new(), ended: false }
    }

    /// Sends something on a channel.
    pub fn send(&mut self, channel: u8, bytes: &[u8]) {
        let message = [&[channel], bytes].concat();
        self.socket.send(Message::binary(message)).expect("send");
    }

    /// Has the terminal at the other end change its size.
    pub fn resize(&mut self, rows: u16, columns: u16) {
        let size = serde_json::json!({ "Width": columns, "Height": rows });
        self.send(Channel::Resize as u8, size.to_string().as_bytes());
    }

    /// All that has come on a channel.
    pub fn received(&self, channel: u8) -> String {
        let bytes = self.received.get(&channel).map(Vec::as_slice).unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    }

    /// Reads until a channel has brought a text; panics when it ends before.
    #[track_caller]
    pub fn expect(&mut self, channel: u8, text: &str) {
        assert!(self.brings(channel, text, patience()), "{text:?} did not come: {:?}", self.received);
    }

    /// Reads until a channel has brought a text, or brings nothing for that long, or ends.
    #[track_caller]
    pub fn brings(&mut self, channel: u8, text: &str, within: Duration) -> bool {
        self.socket.get_ref().set_read_timeout(Some(within)).expect("set a time limit");
        while !self.received(channel).contains(text) {
            if !self.read() {
                return false;
            }
        }
        true
    }

    /// Reads to the end; the exit code.
    #[track_caller]
    pub fn finish(&mut self) -> i32 {
        while self.read() {}
        assert!(self.ended, "it has no end; so far: {:?}", self.received);
        let text = self.received(Channel::Status as u8);
        let status: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text:?}"));
        if status["status"] == "Success" {
            return 0;
        }
        let code = status["details"]["causes"][0]["message"].as_str().and_then(|code| code.parse().ok());
        code.unwrap_or_else(|| panic!("no exit code: {status}"))
    }

    /// One message; `false` at the end, or when none comes in time.
    fn read(&mut self) -> bool {
        match self.socket.read() {
            Ok(Message::Binary(bytes)) => {
                if let Some((channel, content)) = bytes.split_first() {
                    self.received.entry(*channel).or_default().extend(content);
                }
                true
            }
            Ok(Message::Close(_)) | Err(Error::ConnectionClosed | Error::AlreadyClosed) => {
                self.ended = true;
                false
            }
            Ok(_) => true,
            Err(Error::Io(e)) if e.kind() == ErrorKind::WouldBlock => false,
            Err(e) => panic!("the stream broke: {e}; so far: {:?}", self.received),
        }
    }
}
