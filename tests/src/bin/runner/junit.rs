//! Results as CI systems read them.

use crate::test::{Ended, Verdict};
use std::fmt::Write;

/// A JUnit document with a `testsuite` for each place, and one for what is broken besides.
pub(crate) fn document<'a>(
    places: impl Iterator<Item = (&'a str, &'a [Ended])>,
    broken: &[String],
) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    places.for_each(|(place, ended)| text += &testsuite(place, ended));
    for what in broken {
        let what = escape(what);
        let _ = writeln!(
            text,
            "<testsuite name=\"machines\" tests=\"1\" failures=\"1\" skipped=\"0\">\
             <testcase name=\"{what}\"><failure message=\"{what}\"/></testcase></testsuite>"
        );
    }
    text + "</testsuites>\n"
}

/// One JUnit `testsuite` element, a line.
fn testsuite(place: &str, ended: &[Ended]) -> String {
    let count = |kind: fn(&Verdict) -> bool| ended.iter().filter(|e| kind(&e.verdict)).count();
    let failures = count(|v| matches!(v, Verdict::Failed(_)));
    let skipped = count(|v| matches!(v, Verdict::Skipped(_)));
    let mut text = format!(
        "<testsuite name=\"{}\" tests=\"{}\" failures=\"{failures}\" skipped=\"{skipped}\">",
        escape(place),
        ended.len()
    );
    for e in ended {
        let (file, name) = e.title.split_once("::").unwrap_or(("", &e.title));
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
            escape(file),
            escape(name),
            escape(place),
            e.took.as_secs_f64()
        );
    }
    text + "</testsuite>\n"
}

/// XML's own characters as entities; what XML forbids, as a replacement character.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(c),
            c if c.is_control() || ['\u{fffe}', '\u{ffff}'].contains(&c) => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}
