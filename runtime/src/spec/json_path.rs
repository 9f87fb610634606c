//! Where in a document an error is: serde_json tells line and column, people look for `process.user.uid`.

/// The path of the value that ends, or is about to begin, at a line and a column (both from 1, in bytes).
///
/// Works on any bytes: what is no JSON has a path up to where it stops being JSON.
pub(super) fn path(bytes: &[u8], line: usize, column: usize) -> String {
    let start = match line {
        0 | 1 => 0,
        _ => bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').nth(line - 2).map_or(0, |(at, _)| at + 1),
    };
    let end = (start + column).min(bytes.len());
    // A struct's own bracket has been read by then, but the error is about what stood before it.
    let end = if matches!(bytes[..end].last(), Some(b'}' | b']')) { end - 1 } else { end };
    let mut steps: Vec<Step> = Vec::new();
    let mut rest = &bytes[..end];
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match (byte, steps.last_mut()) {
            (b'{', _) => steps.push(Step::Key(None)),
            (b'[', _) => steps.push(Step::Index(0)),
            (b'}' | b']', _) => drop(steps.pop()),
            (b',', Some(Step::Index(n))) => *n += 1,
            (b',', Some(Step::Key(key))) => *key = None,
            (b'"', step) => {
                let text = string(&mut rest);
                if let Some(Step::Key(key @ None)) = step {
                    *key = Some(text);
                }
            }
            _ => {}
        }
    }
    let mut path = String::new();
    for step in steps {
        match step {
            Step::Index(n) => path.push_str(&format!("[{n}]")),
            Step::Key(Some(key)) if path.is_empty() => path = key,
            Step::Key(Some(key)) => path.push_str(&format!(".{key}")),
            Step::Key(None) => {}
        }
    }
    path
}

enum Step {
    Key(Option<String>),
    Index(usize),
}

/// The text of a string behind its opening quote, escapes as they stand.
fn string(rest: &mut &[u8]) -> String {
    let mut len = 0;
    while let Some(byte) = rest.get(len) {
        match byte {
            b'"' => break,
            b'\\' => len += 2,
            _ => len += 1,
        }
    }
    let len = len.min(rest.len());
    let text = String::from_utf8_lossy(&rest[..len]).into_owned();
    *rest = rest.get(len + 1..).unwrap_or_default();
    text
}

#[cfg(test)]
mod tests {
    use super::path;

    #[test]
    fn a_path_leads_to_the_value_before_a_place() {
        let text = br#"{"a":{"b\"c":[1,{"d":"x"},7]},"e":true}"#;
        let at = |what: &str| {
            let text = std::str::from_utf8(text).unwrap();
            path(text.as_bytes(), 1, text.find(what).unwrap() + what.len())
        };
        assert_eq!(at("[1"), r#"a.b\"c[0]"#);
        assert_eq!(at("\"x\""), r#"a.b\"c[1].d"#);
        assert_eq!(at("\"x\"}"), r#"a.b\"c[1].d"#);
        assert_eq!(at(",7"), r#"a.b\"c[2]"#);
        assert_eq!(at("\"e\":"), "e");
        assert_eq!(at("true"), "e");
        assert_eq!(path(text, 1, 0), "");
    }

    #[test]
    fn lines_count_and_rubbish_has_a_place_too() {
        assert_eq!(path(b"{\n \"a\": [\n  1,\n  x", 4, 3), "a[1]");
        for text in [&b""[..], b"\"", b"{\"a\\", b"]]}", b"[[[", b"\xff{\"\xfe"] {
            for column in 0..9 {
                path(text, 1, column);
                path(text, 7, column);
            }
        }
    }
}
