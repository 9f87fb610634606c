//! Results as CI systems read them.

use crate::test::{Ended, Verdict};
use std::fmt::Write;

/// One JUnit `testsuite` element, a line.
pub(crate) fn testsuite(place: &str, ended: &[Ended]) -> String {
    let count = |kind: fn(&Verdict) -> bool| ended.iter().filter(|e| kind(&e.verdict)).count();
    let failures = count(|v| matches!(v, Verdict::Failed(_)));
    let skipped = count(|v| matches!(v, Verdict::Skipped(_)));
    let mut text = format!(
        "<testsuite name=\"{}\" tests=\"{}\" failures=\"{failures}\" skipped=\"{skipped}\">",
        escape(place),
        ended.len()
    );
    for e in ended {
        let (program, name) = e.title.split_once("::").unwrap_or(("", &e.title));
        let inner = match &e.verdict {
            Verdict::Passed => String::new(),
            Verdict::Skipped(why) => format!("<skipped message=\"{}\"/>", escape(why)),
            Verdict::Failed(why) => {
                format!("<failure message=\"{}\">{}</failure>", escape(why), escape(&e.output))
            }
        };
        let _ = write!(
            text,
            "<testcase classname=\"{}\" name=\"{} @{}\" time=\"{:.3}\">{inner}</testcase>",
            escape(program),
            escape(name),
            escape(place),
            e.took.as_secs_f64()
        );
    }
    text + "</testsuite>\n"
}

/// XML's own characters as entities; control characters, which XML forbids, as a replacement character.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(c),
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}
