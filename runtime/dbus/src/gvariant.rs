//! Values of the bus, and the text that annotations hold them in: GVariant's (GLib's "GVariant Text Format"), as far
//! as properties of units need it. No dictionaries, no maybes.

use std::fmt;

use anyhow::{Context, Result, bail};
use serde::Serialize;

/// A value with its type in the D-Bus type system.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
#[allow(missing_docs, reason = "the D-Bus specification's own names")]
pub enum Value {
    Boolean(bool),
    Byte(u8),
    Int16(i16),
    Uint16(u16),
    Int32(i32),
    Uint32(u32),
    Int64(i64),
    Uint64(u64),
    Double(f64),
    Text(String),
    /// The elements' type, which an empty array has, too.
    Array(String, Vec<Value>),
    Tuple(Vec<Value>),
}

impl Value {
    /// The type as the bus writes it: `s`, `au`, `(sb)`.
    pub fn signature(&self) -> String {
        let letter = match self {
            Value::Boolean(_) => "b",
            Value::Byte(_) => "y",
            Value::Int16(_) => "n",
            Value::Uint16(_) => "q",
            Value::Int32(_) => "i",
            Value::Uint32(_) => "u",
            Value::Int64(_) => "x",
            Value::Uint64(_) => "t",
            Value::Double(_) => "d",
            Value::Text(_) => "s",
            Value::Array(element, _) => return format!("a{element}"),
            Value::Tuple(parts) => {
                return format!("({})", parts.iter().map(Value::signature).collect::<String>());
            }
        };
        letter.to_owned()
    }

    /// Reads GVariant text.
    ///
    /// # Errors
    /// What was expected, and where.
    pub fn parse(text: &str) -> Result<Value> {
        let mut reader = Reader { rest: text, depth: 0 };
        let value = reader.value(None)?;
        match reader.peek() {
            None if value.signature().len() > MAX_SIGNATURE => bail!("its type is too long"),
            None => Ok(value),
            Some(_) => bail!("{:?} stands behind the value", reader.rest),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, values: &[Value]| {
            values.iter().enumerate().try_for_each(|(n, value)| {
                f.write_str(if n == 0 { "" } else { ", " })?;
                value.fmt(f)
            })
        };
        match self {
            Value::Boolean(v) => v.fmt(f),
            Value::Byte(v) => v.fmt(f),
            Value::Int16(v) => v.fmt(f),
            Value::Uint16(v) => v.fmt(f),
            Value::Int32(v) => v.fmt(f),
            Value::Uint32(v) => v.fmt(f),
            Value::Int64(v) => v.fmt(f),
            Value::Uint64(v) => v.fmt(f),
            Value::Double(v) => v.fmt(f),
            Value::Text(v) => write!(f, "'{v}'"),
            Value::Array(_, values) => {
                f.write_str("[")?;
                list(f, values)?;
                f.write_str("]")
            }
            Value::Tuple(values) => {
                f.write_str("(")?;
                list(f, values)?;
                f.write_str(")")
            }
        }
    }
}

/// D-Bus specification, "Signatures".
const MAX_SIGNATURE: usize = 255;

/// What stands behind the one complete type that `kind` begins with.
fn after_type(kind: &str) -> Option<&str> {
    let mut chars = kind.chars();
    match chars.next()? {
        'a' => after_type(chars.as_str()),
        '(' => {
            let mut rest = after_type(chars.as_str())?;
            while !rest.starts_with(')') {
                rest = after_type(rest)?;
            }
            rest.strip_prefix(')')
        }
        letter if KEYWORDS.iter().any(|(_, l)| l.starts_with(letter)) => Some(chars.as_str()),
        _ => None,
    }
}

/// No property's value is deeper; a bound keeps the parser's own stack short.
const MAX_DEPTH: usize = 8;

/// The words that may stand before a value.
const KEYWORDS: [(&str, &str); 10] = [
    ("boolean", "b"),
    ("byte", "y"),
    ("int16", "n"),
    ("uint16", "q"),
    ("int32", "i"),
    ("uint32", "u"),
    ("int64", "x"),
    ("uint64", "t"),
    ("double", "d"),
    ("string", "s"),
];

struct Reader<'t> {
    rest: &'t str,
    depth: usize,
}

impl<'t> Reader<'t> {
    fn peek(&mut self) -> Option<char> {
        self.rest = self.rest.trim_start();
        self.rest.chars().next()
    }

    fn take(&mut self, wanted: char) -> bool {
        let there = self.peek() == Some(wanted);
        if there {
            self.rest = &self.rest[wanted.len_utf8()..];
        }
        there
    }

    fn word(&mut self, part: impl Fn(char) -> bool) -> &'t str {
        let end = self.rest.find(|c| !part(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    /// `kind` is the type that stands before the value, or that the elements before it have.
    fn value(&mut self, kind: Option<&str>) -> Result<Value> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            bail!("is nested more than {MAX_DEPTH} deep");
        }
        let value = self.any(kind)?;
        self.depth -= 1;
        match kind {
            Some(kind) if value.signature() != kind => bail!("{value} is not of the type {kind}"),
            _ => Ok(value),
        }
    }

    fn any(&mut self, kind: Option<&str>) -> Result<Value> {
        match self.peek().context("the value is missing (a text needs quotes: 'text')")? {
            '@' => {
                self.take('@');
                let kind = self.word(|c| !c.is_whitespace());
                if kind.len() > MAX_SIGNATURE || after_type(kind) != Some("") {
                    bail!("{kind:?} is no type, such as s or as");
                }
                self.value(Some(kind))
            }
            '[' => self.array(kind.and_then(|k| k.strip_prefix('a'))),
            '(' => self.tuple(),
            '\'' | '"' => self.text(),
            '0'..='9' | '+' | '-' | '.' => {
                let word = self.word(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
                number(word, kind)
            }
            _ => {
                let word = self.word(|c| c.is_ascii_alphanumeric());
                match (word, KEYWORDS.iter().find(|(name, _)| *name == word)) {
                    ("true", _) => Ok(Value::Boolean(true)),
                    ("false", _) => Ok(Value::Boolean(false)),
                    (_, Some((_, kind))) => self.value(Some(kind)),
                    _ => {
                        bail!("{:?} is no value; a text needs quotes: 'text'", format!("{word}{}", self.rest))
                    }
                }
            }
        }
    }

    fn array(&mut self, element: Option<&str>) -> Result<Value> {
        self.take('[');
        let mut element = element.map(str::to_owned);
        let mut values = Vec::new();
        while !self.take(']') {
            if !values.is_empty() && !self.take(',') {
                bail!("expected , or ] before {:?}", self.rest);
            }
            let value = self.value(element.as_deref())?;
            element.get_or_insert_with(|| value.signature());
            values.push(value);
        }
        let element = element.context("the type of an empty list is unknown: write @as []")?;
        Ok(Value::Array(element, values))
    }

    fn tuple(&mut self) -> Result<Value> {
        self.take('(');
        let mut values = Vec::new();
        while !self.take(')') {
            if !values.is_empty() && !self.take(',') {
                bail!("expected , or ) before {:?}", self.rest);
            }
            // (5,) is a tuple of one.
            if !values.is_empty() && self.take(')') {
                break;
            }
            values.push(self.value(None)?);
        }
        if values.is_empty() {
            bail!("the bus has no empty tuples");
        }
        Ok(Value::Tuple(values))
    }

    fn text(&mut self) -> Result<Value> {
        let mut chars = self.rest.chars();
        let quote = chars.next();
        let mut text = String::new();
        loop {
            match chars.next().context("the end of a text is missing")? {
                c if Some(c) == quote => break,
                '\\' => match chars.next().context("the end of a text is missing")? {
                    'n' => text.push('\n'),
                    't' => text.push('\t'),
                    'u' => text.push(unicode(chars.by_ref().take(4).collect())?),
                    'U' => text.push(unicode(chars.by_ref().take(8).collect())?),
                    other => text.push(other),
                },
                c => text.push(c),
            }
        }
        // systemd writes a scope's properties into a file of lines.
        if text.chars().any(char::is_control) {
            bail!("a text can't hold control characters, such as the end of a line");
        }
        self.rest = chars.as_str();
        Ok(Value::Text(text))
    }
}

fn unicode(digits: String) -> Result<char> {
    let code = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
    code.with_context(|| format!("\\u{digits} is no character"))
}

/// Without a type, a number is an int32, and one with a point a double.
fn number(word: &str, kind: Option<&str>) -> Result<Value> {
    let value = match kind {
        Some("d") => word.parse().ok().map(Value::Double),
        Some("y") => integer(word).map(Value::Byte),
        Some("n") => integer(word).map(Value::Int16),
        Some("q") => integer(word).map(Value::Uint16),
        Some("u") => integer(word).map(Value::Uint32),
        Some("x") => integer(word).map(Value::Int64),
        Some("t") => integer(word).map(Value::Uint64),
        _ if word.contains('.') => word.parse().ok().map(Value::Double),
        _ => integer(word).map(Value::Int32),
    };
    value.with_context(|| match kind {
        Some(kind) => format!("{word} is no number of the type {kind}"),
        None => format!("{word} is no number of 32 bits; put a type before it: uint64 {word}"),
    })
}

fn integer<N: TryFrom<i128>>(word: &str) -> Option<N> {
    let (sign, digits) = match word.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, word.strip_prefix('+').unwrap_or(word)),
    };
    let value = match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => digits.parse(),
    };
    N::try_from(sign * i128::from(value.ok()?)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (String, String) {
        let value = Value::parse(text).unwrap_or_else(|e| panic!("{text}: {e:#}"));
        (value.signature(), value.to_string())
    }

    #[test]
    fn each_kind_of_value_is_read() {
        for (text, signature, shown) in [
            ("true", "b", "true"),
            ("  false ", "b", "false"),
            ("5", "i", "5"),
            ("-5", "i", "-5"),
            ("0x10", "i", "16"),
            ("1.5", "d", "1.5"),
            ("uint64 123456789", "t", "123456789"),
            ("uint64 18446744073709551615", "t", "18446744073709551615"),
            ("@t 7", "t", "7"),
            ("byte 255", "y", "255"),
            ("double 2", "d", "2"),
            ("'inactive-or-failed'", "s", "'inactive-or-failed'"),
            (r#""it's""#, "s", "'it's'"),
            (r"'a\'b\\c\u00e4'", "s", "'a'b\\cä'"),
            ("['a.service', 'b.service']", "as", "['a.service', 'b.service']"),
            ("@as []", "as", "[]"),
            ("@a(sas) []", "a(sas)", "[]"),
            ("[uint64 1, 2]", "at", "[1, 2]"),
            ("@ay [1, 2]", "ay", "[1, 2]"),
            (
                "[('/dev/null', 'rw'), ('/dev/zero', 'r')]",
                "a(ss)",
                "[('/dev/null', 'rw'), ('/dev/zero', 'r')]",
            ),
            ("(5,)", "(i)", "(5)"),
        ] {
            assert_eq!(read(text), (signature.to_owned(), shown.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for text in [
            "",
            " ",
            "text",
            "'text",
            "'a' 'b'",
            "[]",
            "[1 2]",
            "[1, 'a']",
            "[1",
            "(",
            "()",
            "5000000000",
            "uint64 -1",
            "byte 256",
            "uint64 'a'",
            "uint64",
            "@as [1]",
            "@",
            "@aQ []",
            "@a []",
            "@(ss []",
            "@() []",
            "@a{sv} []",
            "@ss 'a'",
            "{'a': 1}",
            "just 5",
            r"'\u0000'",
            r"'\ud800'",
            "'a\0b'",
            r"'a\nb'",
            "'a\nb'",
            "-",
            "--5",
            "1.5.5",
        ] {
            assert!(Value::parse(text).is_err(), "{text:?}: {:?}", Value::parse(text));
        }
        assert!(Value::parse(&"[".repeat(100_000)).unwrap_err().to_string().contains("deep"));
        assert!(Value::parse(&"uint64 ".repeat(100_000)).is_err());
        assert!(Value::parse(&format!("@{} []", "a".repeat(100_000))).is_err());
        assert!(
            Value::parse(&format!("({})", "1, ".repeat(300))).unwrap_err().to_string().contains("too long")
        );
    }
}
