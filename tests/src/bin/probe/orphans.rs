//! Commands that make orphans and count queued signals: what a PID 1 has to cope with.

use super::consume::number;
use super::{Answer, say, sys};
use serde_json::json;

/// `orphans COUNT`: makes that many orphans, each a process that ends at once after its parent has, and tells how
/// many there were.
pub(crate) fn orphans(args: &[String]) -> Answer {
    let count: u64 = number(&args[0])?;
    for _ in 0..count {
        sys::make_orphan()?;
    }
    Ok(json!({ "orphans": count }))
}

/// `adopted`: makes an orphan, and tells whose child it has become.
pub(crate) fn adopted(_: &[String]) -> Answer {
    Ok(json!(sys::parent_of_an_orphan()?))
}

/// `breed LINES`: starts that many processes, each of which goes on in a child of its own again and again, so that no
/// list of their pids is ever true.
pub(crate) fn breed(args: &[String]) -> Answer {
    let count: u64 = number(&args[0])?;
    for _ in 0..count {
        sys::make_line()?;
    }
    Ok(json!({ "lines": count }))
}

/// `queued`: takes signal 40, a real-time one of every C library, until it comes with a negative value, and tells how
/// many others came. They carry 0, 1, 2 and so on; the first that doesn't is the answer.
pub(crate) fn queued(_: &[String]) -> Answer {
    sys::block_all();
    say(&json!("ready"));
    let mut expected = 0;
    loop {
        match sys::wait_for_queued()? {
            value if value < 0 => return Ok(json!({ "queued": expected })),
            value if value == expected => expected += 1,
            value => return Ok(json!({ "expected": expected, "came": value })),
        }
    }
}
