//! What a person reads.

/// The text without control characters: an image's names are in it, and they must neither break the line nor speak to a
/// terminal.
#[must_use]
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}
