//! Changes to JSON documents that leave them JSON: of changes of bytes most only end in the parser.

use serde_json::{Map, Value};

/// One word a line, in quotes: what documents are made of, for libFuzzer's `-dict` as well.
const WORDS: &str = include_str!("../words.dict");

/// Changes a document within `data`, of which `size` bytes are used; returns how many then are. What stands behind a zero
/// byte stays as it is. What is no JSON, and every fourth that is, is left to `bytes`.
pub fn mutate(
    data: &mut [u8],
    size: usize,
    max: usize,
    seed: u32,
    bytes: fn(&mut [u8], usize, usize) -> usize,
) -> usize {
    let mut rng = Rng(u64::from(seed) << 1 | 1);
    let end = data[..size].iter().position(|byte| *byte == 0).unwrap_or(size);
    let Ok(mut document) = serde_json::from_slice::<Value>(&data[..end]) else {
        return bytes(data, size, max);
    };
    if rng.below(4) == 0 {
        return bytes(data, size, max);
    }
    for _ in 0..=rng.below(4) {
        change(&mut document, &mut rng);
    }
    let mut text = serde_json::to_vec(&document).unwrap_or_default();
    text.extend_from_slice(&data[end..size]);
    if text.len() > max.min(data.len()) {
        return bytes(data, size, max);
    }
    data[..text.len()].copy_from_slice(&text);
    text.len()
}

/// Numbers that look random: xorshift64 (Marsaglia, "Xorshift RNGs").
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next().wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as usize % end.max(1)
    }

    fn word(&mut self) -> String {
        let words: Vec<&str> =
            WORDS.lines().filter_map(|line| line.strip_prefix('"')?.strip_suffix('"')).collect();
        words[self.below(words.len())].to_owned()
    }
}

fn change(document: &mut Value, rng: &mut Rng) {
    let others = nodes(document);
    let other = rng.below(others);
    let other = node(document, other).clone();
    let wanted = rng.below(others);
    let place = node(document, wanted);
    match (rng.below(6), place) {
        (0, place) => *place = other,
        (1, Value::Array(list)) if !list.is_empty() => {
            let copy = list[rng.below(list.len())].clone();
            list.insert(rng.below(list.len() + 1), copy);
        }
        (2, Value::Array(list)) if !list.is_empty() => drop(list.remove(rng.below(list.len()))),
        (1 | 3, Value::Array(list)) => list.push(other),
        (1, Value::Object(all)) => drop(all.insert(rng.word(), other)),
        (2, Value::Object(all)) => {
            if let Some(key) = key(all, rng) {
                all.remove(&key);
            }
        }
        (3, Value::Object(all)) => {
            if let Some(value) = key(all, rng).and_then(|key| all.remove(&key)) {
                all.insert(rng.word(), value);
            }
        }
        (4, Value::String(text)) => twist(text, rng),
        (_, place) => *place = scalar(rng),
    }
}

fn key(all: &Map<String, Value>, rng: &mut Rng) -> Option<String> {
    all.keys().nth(rng.below(all.len())).cloned()
}

fn scalar(rng: &mut Rng) -> Value {
    match rng.below(10) {
        0 => Value::Null,
        1 => rng.below(2).eq(&0).into(),
        2 => Value::Array(Vec::new()),
        3 => Value::Object(Map::new()),
        4 => rng.next().into(),
        5 | 6 => [0, 1, -1, 4095, 65_536, i64::from(u32::MAX), i64::from(i32::MIN), i64::MIN, i64::MAX]
            [rng.below(9)]
        .into(),
        _ => rng.word().into(),
    }
}

/// Pieces that texts are taken apart at.
fn twist(text: &mut String, rng: &mut Rng) {
    let piece =
        ["/", "..", "=", ",", ":", "-", "\n", "\0", "%d", "é", "0", "x", " ", "4294967295"][rng.below(14)];
    let places: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let (from, to) = (places[rng.below(places.len())], places[rng.below(places.len())]);
    match rng.below(3) {
        0 => text.replace_range(from.min(to)..from.max(to), piece),
        1 => text.push_str(&rng.word()),
        _ => text.insert_str(from, piece),
    }
}

/// How many values a document has, with all those in it.
fn nodes(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(nodes).sum(),
        Value::Object(all) => all.values().map(nodes).sum(),
        _ => 0,
    }
}

/// The value of that number.
fn node(value: &mut Value, number: usize) -> &mut Value {
    fn find<'v>(value: &'v mut Value, left: &mut usize) -> Result<&'v mut Value, ()> {
        if *left == 0 {
            return Ok(value);
        }
        *left -= 1;
        match value {
            Value::Array(list) => list.iter_mut().find_map(|item| find(item, left).ok()),
            Value::Object(all) => all.values_mut().find_map(|item| find(item, left).ok()),
            _ => None,
        }
        .ok_or(())
    }
    let mut left = number;
    find(value, &mut left).expect("there are as many")
}
