//! Both ways, against bytes that were written down by hand from the specification.

use proptest::prelude::*;

use super::*;

fn message(kind: u8, fields: impl FnOnce(&mut Writer), body: &[u8]) -> Vec<u8> {
    let mut out = Writer::default();
    out.bytes.extend([b'l', kind, 0, 1]);
    out.u32(body.len() as u32);
    out.u32(7);
    out.array(8, fields);
    out.align(8);
    out.bytes.extend(body);
    out.bytes
}

fn field(out: &mut Writer, number: u8, kind: &str, value: &str) {
    out.align(8);
    out.bytes.push(number);
    out.signature(kind);
    if kind == "g" { out.signature(value) } else { out.text(value) }
}

fn reply_field(out: &mut Writer, to: u32) {
    out.align(8);
    out.bytes.push(REPLY_SERIAL);
    out.signature("u");
    out.u32(to);
}

#[test]
fn a_call_is_these_bytes() {
    let call = Call { destination: "d.d", path: "/p", interface: "i.i", member: "M", ..Call::default() };
    let wanted: &[&[u8]] = &[
        b"l\x01\0\x01\0\0\0\0\x05\0\0\0\x3a\0\0\0",
        b"\x01\x01o\0\x02\0\0\0/p\0\0\0\0\0\0",
        b"\x06\x01s\0\x03\0\0\0d.d\0\0\0\0\0",
        b"\x02\x01s\0\x03\0\0\0i.i\0\0\0\0\0",
        b"\x03\x01s\0\x01\0\0\0M\0\0\0\0\0\0\0",
    ];
    assert_eq!(call.encode(5), wanted.concat());
}

#[test]
fn properties_stand_where_the_format_wants_them() {
    let mut out = Writer::default();
    out.array(8, |out| {
        out.property("A", &Value::Boolean(true));
        out.property("B", &Value::Uint64(2));
        out.property("C", &Value::Array("y".into(), vec![Value::Byte(9)]));
    });
    let wanted: &[&[u8]] = &[
        b"\x39\0\0\0\0\0\0\0",
        b"\x01\0\0\0A\0\x01b\0\0\0\0\x01\0\0\0",
        b"\x01\0\0\0B\0\x01t\0\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0",
        b"\x01\0\0\0C\0\x02ay\0\0\0\x01\0\0\0\x09",
    ];
    assert_eq!(out.bytes, wanted.concat());
}

#[test]
fn lists_of_structures_are_padded_but_the_padding_is_not_counted() {
    let mut out = Writer::default();
    let pair = Value::Tuple(vec![Value::Byte(1), Value::Uint64(2)]);
    out.value(&Value::Array(pair.signature(), vec![pair]));
    assert_eq!(out.bytes, b"\x10\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0");
    let mut out = Writer::default();
    out.value(&Value::Array("t".into(), Vec::new()));
    assert_eq!(out.bytes, [0; 8], "also an empty one");
}

#[test]
fn answers_refusals_and_signals_are_read() {
    let mut body = Writer::default();
    body.u32(3);
    body.text("/job/3");
    body.text("a.scope");
    body.text("done");
    let signal = message(
        SIGNAL,
        |out| {
            field(out, PATH, "o", "/org");
            field(out, MEMBER, "s", "JobRemoved");
            field(out, SIGNATURE, "g", "uoss");
        },
        &body.bytes,
    );
    let texts = ["/job/3", "a.scope", "done"].map(str::to_owned).to_vec();
    assert_eq!(decode(&signal).unwrap(), Message::Signal { member: "JobRemoved".into(), texts });
    assert_eq!(whole_length(signal[..PREFIX].try_into().unwrap()).unwrap(), signal.len());

    let mut body = Writer::default();
    body.text("no such thing");
    let refusal = message(
        ERROR,
        |out| {
            reply_field(out, 4);
            field(out, ERROR_NAME, "s", "org.x.No");
            field(out, SIGNATURE, "g", "s");
        },
        &body.bytes,
    );
    let wanted = Message::Refusal { to: 4, name: "org.x.No".into(), words: "no such thing".into() };
    assert_eq!(decode(&refusal).unwrap(), wanted);

    let empty = message(REPLY, |out| reply_field(out, 9), b"");
    assert_eq!(decode(&empty).unwrap(), Message::Reply { to: 9, texts: Vec::new() });
}

#[test]
fn the_other_order_of_bytes_is_read_too() {
    let bytes =
        b"B\x02\0\x01\0\0\0\x07\0\0\0\x01\0\0\0\x0f\x05\x01u\0\0\0\0\x09\x08\x01g\0\x01s\0\0\0\0\0\x02ok\0";
    assert_eq!(decode(bytes).unwrap(), Message::Reply { to: 9, texts: vec!["ok".into()] });
    assert_eq!(whole_length(bytes[..PREFIX].try_into().unwrap()).unwrap(), bytes.len());
}

#[test]
fn lengths_that_lead_outside_are_refused() {
    let mut prefix = *b"l\x02\0\x01\0\0\0\0\x01\0\0\0\0\0\0\0";
    prefix[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(whole_length(&prefix).unwrap_err().to_string().contains("more than"));
    prefix[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(whole_length(&prefix).is_err());
    assert!(decode(&prefix).is_err());
    assert!(whole_length(b"x\x02\0\x01\0\0\0\0\x01\0\0\0\0\0\0\0").is_err());
    assert!(whole_length(b"l\x02\0\x02\0\0\0\0\x01\0\0\0\0\0\0\0").is_err());
    assert!(decode(b"l\x02").is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0u8..6) {
        let _ = decode(&bytes);
        if bytes.len() > PREFIX {
            bytes[..4].copy_from_slice(&[b'l', kind, 0, 1]);
            bytes[12..16].copy_from_slice(&[(kind * 8), 0, 0, 0]);
            let _ = decode(&bytes);
        }
    }

    /// Whatever is cut out of an answer or changed in it.
    #[test]
    fn no_damaged_answer_makes_the_reader_panic(at in 0usize..90, byte in any::<u8>(), cut in 0usize..90) {
        let mut body = Writer::default();
        body.text("some words");
        let mut bytes = message(ERROR, |out| {
            reply_field(out, 4);
            field(out, ERROR_NAME, "s", "org.x.No");
            field(out, SIGNATURE, "g", "s");
        }, &body.bytes);
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = decode(&bytes);
        bytes.truncate(cut);
        let _ = decode(&bytes);
    }
}
