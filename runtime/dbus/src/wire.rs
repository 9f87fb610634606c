//! The bus's wire format (D-Bus specification, "Message Protocol"): calls as bytes, and bytes as answers. Pure.
//!
//! What comes in is never trusted: every length is checked against what is there, and nothing is longer than
//! [`MAX_MESSAGE`].

use anyhow::{Context, Result, bail};

use crate::gvariant::Value;

/// systemd's answers are some hundred bytes; the specification allows 128 MiB.
pub const MAX_MESSAGE: usize = 1 << 20;

/// The fixed part, up to and with the length of the fields.
pub const PREFIX: usize = 16;

/// A method call. `signature` and `body` belong together.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "the D-Bus specification's own names")]
pub struct Call<'a> {
    pub destination: &'a str,
    pub path: &'a str,
    pub interface: &'a str,
    pub member: &'a str,
    pub signature: &'a str,
    pub body: Vec<u8>,
}

/// What came in, as far as we listen.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the D-Bus specification's own names")]
pub enum Message {
    /// The answer to the call with this number, and its texts (strings and paths, in order).
    Reply { to: u32, texts: Vec<String> },
    /// The same, refused: the error's name and its words.
    Refusal { to: u32, name: String, words: String },
    /// Broadcast.
    Signal { member: String, texts: Vec<String> },
    /// A call that somebody makes to us.
    Other,
}

const CALL: u8 = 1;
const REPLY: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

/// The fields of a header, by number.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

impl Call<'_> {
    /// The whole message; `serial` is any number but 0.
    pub fn encode(&self, serial: u32) -> Vec<u8> {
        let mut out = Writer::default();
        out.bytes.extend([b'l', CALL, 0, 1]);
        out.u32(self.body.len() as u32);
        out.u32(serial);
        out.array(8, |out| {
            let texts = [
                (PATH, "o", self.path),
                (DESTINATION, "s", self.destination),
                (INTERFACE, "s", self.interface),
                (MEMBER, "s", self.member),
            ];
            for (field, kind, text) in texts {
                out.align(8);
                out.bytes.push(field);
                out.signature(kind);
                out.text(text);
            }
            if !self.signature.is_empty() {
                out.align(8);
                out.bytes.push(SIGNATURE);
                out.signature("g");
                out.signature(self.signature);
            }
        });
        out.align(8);
        out.bytes.extend(&self.body);
        out.bytes
    }
}

/// Marshals, little-endian. Every value stands at a multiple of its own size.
#[derive(Debug, Default)]
pub struct Writer {
    /// What was written so far.
    pub bytes: Vec<u8>,
}

impl Writer {
    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    /// Appends a number, at a multiple of four.
    pub fn u32(&mut self, value: u32) {
        self.fixed(&value.to_le_bytes());
    }

    fn fixed(&mut self, bytes: &[u8]) {
        self.align(bytes.len());
        self.bytes.extend(bytes);
    }

    /// Also an object's path.
    pub fn text(&mut self, text: &str) {
        self.u32(text.len() as u32);
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
    }

    fn signature(&mut self, signature: &str) {
        // Ours are short; the format ends at 255.
        self.bytes.push(signature.len() as u8);
        self.bytes.extend(signature.as_bytes());
        self.bytes.push(0);
    }

    /// The length doesn't count what stands before the first element.
    pub fn array(&mut self, alignment: usize, elements: impl FnOnce(&mut Self)) {
        self.u32(0);
        let length_at = self.bytes.len() - 4;
        self.align(alignment);
        let from = self.bytes.len();
        elements(self);
        let length = (self.bytes.len() - from) as u32;
        self.bytes[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }

    /// One `(sv)` of a list of properties.
    pub fn property(&mut self, name: &str, value: &Value) {
        self.align(8);
        self.text(name);
        self.signature(&value.signature());
        self.value(value);
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Boolean(v) => self.u32(u32::from(*v)),
            Value::Byte(v) => self.bytes.push(*v),
            Value::Int16(v) => self.fixed(&v.to_le_bytes()),
            Value::Uint16(v) => self.fixed(&v.to_le_bytes()),
            Value::Int32(v) => self.fixed(&v.to_le_bytes()),
            Value::Uint32(v) => self.fixed(&v.to_le_bytes()),
            Value::Int64(v) => self.fixed(&v.to_le_bytes()),
            Value::Uint64(v) => self.fixed(&v.to_le_bytes()),
            Value::Double(v) => self.fixed(&v.to_le_bytes()),
            Value::Text(v) => self.text(v),
            Value::Array(element, values) => {
                self.array(alignment(element), |out| values.iter().for_each(|v| out.value(v)));
            }
            Value::Tuple(values) => {
                self.align(8);
                values.iter().for_each(|v| self.value(v));
            }
        }
    }
}

fn alignment(signature: &str) -> usize {
    match signature.as_bytes().first() {
        Some(b'y' | b'g' | b'v') => 1,
        Some(b'n' | b'q') => 2,
        Some(b'x' | b't' | b'd' | b'(' | b'{') => 8,
        _ => 4,
    }
}

/// How long the message is that begins with these bytes.
///
/// # Errors
/// They begin no message of protocol version 1, or one that is too long.
pub fn whole_length(prefix: &[u8; PREFIX]) -> Result<usize> {
    let mut reader = Reader::new(prefix)?;
    if prefix[3] != 1 {
        bail!("the bus speaks version {}, not 1", prefix[3]);
    }
    reader.at = 4;
    let (body, _serial, fields) = (reader.u32()? as usize, reader.u32()?, reader.u32()? as usize);
    if body > MAX_MESSAGE || fields > MAX_MESSAGE {
        bail!("the bus sent a message of {} bytes, more than {MAX_MESSAGE}", body.saturating_add(fields));
    }
    Ok((PREFIX + fields).next_multiple_of(8) + body)
}

/// Reads a whole message.
///
/// # Errors
/// A length that leads outside, a text that is no UTF-8.
pub fn decode(bytes: &[u8]) -> Result<Message> {
    let mut reader = Reader::new(bytes)?;
    let kind = bytes[1];
    reader.at = 12;
    let end = reader.u32()? as usize + PREFIX;
    if end > bytes.len() {
        bail!("a header leads outside its message");
    }
    let (mut to, mut member, mut error, mut signature) = (0, String::new(), String::new(), String::new());
    while reader.at < end {
        reader.align(8);
        let field = reader.byte()?;
        let kind = reader.signature()?;
        match (field, &*kind) {
            (REPLY_SERIAL, "u") => to = reader.u32()?,
            (MEMBER, "s") => member = reader.text()?,
            (ERROR_NAME, "s") => error = reader.text()?,
            (SIGNATURE, "g") => signature = reader.signature()?,
            (_, "u") => drop(reader.u32()?),
            (_, "s" | "o") => drop(reader.text()?),
            (_, "g") => drop(reader.signature()?),
            (_, kind) => bail!("a header has a field of the type {kind}"),
        }
    }
    reader.at = end.next_multiple_of(8);
    Ok(match kind {
        REPLY => Message::Reply { to, texts: reader.texts(&signature)? },
        ERROR => {
            let words = reader.texts(&signature)?.into_iter().next().unwrap_or_default();
            Message::Refusal { to, name: error, words }
        }
        SIGNAL => Message::Signal { member, texts: reader.texts(&signature)? },
        _ => Message::Other,
    })
}

/// Unmarshals, in either order of bytes.
struct Reader<'m> {
    bytes: &'m [u8],
    at: usize,
    big: bool,
}

impl<'m> Reader<'m> {
    fn new(bytes: &'m [u8]) -> Result<Self> {
        if bytes.len() < PREFIX {
            bail!("{} bytes are no message", bytes.len());
        }
        match bytes[0] {
            b'l' => Ok(Reader { bytes, at: 0, big: false }),
            b'B' => Ok(Reader { bytes, at: 0, big: true }),
            _ => bail!("what the bus sent is no message"),
        }
    }

    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, length: usize) -> Result<&'m [u8]> {
        let end = self.at.checked_add(length);
        let part = end.and_then(|end| self.bytes.get(self.at..end));
        let part = part.context("a message ends too early")?;
        self.at += length;
        Ok(part)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn u32(&mut self) -> Result<u32> {
        self.align(4);
        let bytes = self.take(4)?.try_into()?;
        Ok(if self.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn text(&mut self) -> Result<String> {
        let length = self.u32()? as usize;
        self.ended(length)
    }

    fn signature(&mut self) -> Result<String> {
        let length = self.byte()? as usize;
        self.ended(length)
    }

    fn ended(&mut self, length: usize) -> Result<String> {
        let text = std::str::from_utf8(self.take(length)?).context("a text is no UTF-8")?.to_owned();
        if self.byte()? != 0 {
            bail!("a text has no end");
        }
        Ok(text)
    }

    /// The body's texts, up to the first value that is neither text nor number: nothing that we ask for has more.
    fn texts(&mut self, signature: &str) -> Result<Vec<String>> {
        let mut texts = Vec::new();
        for kind in signature.chars() {
            match kind {
                's' | 'o' => texts.push(self.text()?),
                'u' | 'i' | 'b' => drop(self.u32()?),
                'v' if self.signature()? == "s" => texts.push(self.text()?),
                _ => break,
            }
        }
        Ok(texts)
    }
}

#[cfg(test)]
mod tests;
