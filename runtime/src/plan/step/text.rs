//! Pieces that the texts of steps share.

use std::fmt::{self, Formatter};
use std::path::Path;

use super::types::{Hook, HookKind, IdRange};
use crate::plan::attributes::Attributes;

/// `1 rule`, `2 rules`.
pub(super) fn plural(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

pub(super) fn run_hooks(f: &mut Formatter<'_>, kind: HookKind, hooks: &[Hook]) -> fmt::Result {
    write!(f, "run {kind} hooks")?;
    hooks
        .iter()
        .enumerate()
        .try_for_each(|(n, hook)| write!(f, "{} {}", if n == 0 { "" } else { "," }, hook.path.display()))
}

/// `0→1000×1,1→100000×65536`: inside, outside, how many.
pub(super) fn ids(ranges: &[IdRange]) -> String {
    ranges.iter().map(|r| format!("{}→{}×{}", r.inside, r.outside, r.size)).collect::<Vec<_>>().join(",")
}

pub(super) fn clone_mount(
    f: &mut Formatter<'_>,
    source: &Path,
    recursive: bool,
    attributes: &Attributes,
) -> fmt::Result {
    write!(f, "clone the mount{} at {}{attributes}", if recursive { "s" } else { "" }, source.display())
}
