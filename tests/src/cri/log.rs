//! Logs as the kubelet reads them: `TIME STREAM TAG CONTENT`, where the tag is F or, for a part of a line, P.

use std::path::Path;

/// One line of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// `stdout` or `stderr`.
    pub stream: String,
    /// Whether the line goes on in the next.
    pub is_part: bool,
    /// What was written.
    pub content: String,
}

/// Reads a log that may not be there yet; panics over a line that is none.
pub fn lines(path: &Path) -> Vec<Line> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| parse(line).unwrap_or_else(|| panic!("no line of a log: {line:?}"))).collect()
}

fn parse(line: &str) -> Option<Line> {
    let mut words = line.splitn(4, ' ');
    let (time, stream, tag, content) = (words.next()?, words.next()?, words.next()?, words.next()?);
    // RFC 3339 with nanoseconds.
    let is_time = time.len() >= 20 && time.as_bytes()[10] == b'T';
    let is_known = matches!(stream, "stdout" | "stderr") && matches!(tag, "F" | "P");
    (is_time && is_known).then(|| Line {
        stream: stream.to_owned(),
        is_part: tag == "P",
        content: content.to_owned(),
    })
}
