//! Protocol Buffers' wire format, as far as CRIU's messages need it (protobuf.dev, "Encoding"): fields of numbers and
//! of bytes, the latter being text or messages again.

use anyhow::{Context, Result, bail};

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH: u64 = 2;
const FIXED32: u64 = 5;

/// A message that is being written.
#[derive(Default)]
pub(super) struct Message(pub(super) Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// An enum's or an unsigned number, or a signed one that isn't negative.
    pub(super) fn number(&mut self, field: u64, value: u64) {
        self.varint(field << 3 | VARINT);
        self.varint(value);
    }

    /// Missing means false.
    pub(super) fn flag(&mut self, field: u64, value: bool) {
        if value {
            self.number(field, 1);
        }
    }

    pub(super) fn bytes(&mut self, field: u64, value: &[u8]) {
        self.varint(field << 3 | LENGTH);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    /// A message of two fields, 1 and 2, both of them text.
    pub(super) fn pair(&mut self, field: u64, first: &str, second: &str) {
        let mut pair = Message::default();
        pair.bytes(1, first.as_bytes());
        pair.bytes(2, second.as_bytes());
        self.bytes(field, &pair.0);
    }
}

/// A field's value. Its number says what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    pub(super) fn number(self) -> u64 {
        if let Value::Number(n) = self { n } else { 0 }
    }

    pub(super) fn bytes(self) -> &'a [u8] {
        if let Value::Bytes(b) = self { b } else { &[] }
    }
}

/// The fields of a message, in its order.
///
/// # Errors
/// The bytes are cut short, or no message.
pub(super) fn fields(mut rest: &[u8]) -> Result<Vec<(u64, Value<'_>)>> {
    let mut found = Vec::new();
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        let value = match key & 7 {
            VARINT => Value::Number(varint(&mut rest)?),
            LENGTH => {
                let length = varint(&mut rest)?;
                Value::Bytes(take(&mut rest, length)?)
            }
            FIXED64 => Value::Bytes(take(&mut rest, 8)?),
            FIXED32 => Value::Bytes(take(&mut rest, 4)?),
            kind => bail!("wire type {kind}"),
        };
        found.push((key >> 3, value));
    }
    Ok(found)
}

fn take<'a>(rest: &mut &'a [u8], length: u64) -> Result<&'a [u8]> {
    let cut = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length));
    let (value, after) = cut.context("cut short")?;
    *rest = after;
    Ok(value)
}

fn varint(rest: &mut &[u8]) -> Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(rest, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    bail!("a number without end")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let mut message = Message::default();
        message.number(1, 300);
        message.flag(2, false);
        message.flag(3, true);
        message.bytes(64, b"text");
        message.number(5, u64::MAX);
        // The first is the example of the format's own description.
        assert_eq!(message.0[..3], [0x08, 0xac, 0x02]);
        let read = fields(&message.0).unwrap();
        let number = Value::Number;
        let wanted = [(1, number(300)), (3, number(1)), (64, Value::Bytes(b"text")), (5, number(u64::MAX))];
        assert_eq!(read, wanted);
    }

    #[test]
    fn what_is_cut_short_or_no_message_is_an_error() {
        let mut message = Message::default();
        message.pair(7, "key", "value");
        for length in 1..message.0.len() {
            assert!(fields(&message.0[..length]).is_err(), "{length} bytes");
        }
        for bytes in [&[0x0b][..], &[0xff; 12], &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]]
        {
            assert!(fields(bytes).is_err(), "{bytes:?}");
        }
    }
}
