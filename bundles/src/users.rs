//! Users and groups by name, as the image itself has them: never this host's, and never through NSS.

use anyhow::{Context, Result};

use crate::tree::{self, Tree};

/// No image has a longer list.
const MAX_FILE: u64 = 4 << 20;

/// Whom a process runs as.
#[derive(Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the spec's own names")]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    pub additional_gids: Vec<u32>,
}

/// What an image's `User` means: `user`, `uid`, `user:group`, `uid:gid`, `uid:group` or `user:gid` (config.md). Without
/// a group it is the user's own, and those that list him.
///
/// # Errors
/// A name that the image doesn't know.
pub fn of(tree: &Tree, text: &str) -> Result<User> {
    let passwd = tree::text(tree, "etc/passwd", MAX_FILE)?;
    let group = tree::text(tree, "etc/group", MAX_FILE)?;
    find(text, &passwd, &group)
}

fn find(text: &str, passwd: &str, groups: &str) -> Result<User> {
    let (user, group) = text.split_once(':').unwrap_or((text, ""));
    let user = if user.is_empty() { "0" } else { user };
    let entries = || passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let entry = entries()
        .find(|entry| entry.first() == Some(&user))
        .or_else(|| entries().find(|entry| entry.get(2) == Some(&user)));
    // -1 is no id: to the calls that set one it means "as it is".
    let id = |text: &str| text.parse().ok().filter(|id| *id != u32::MAX);
    let number = |entry: &[&str], n: usize| entry.get(n).and_then(|field| id(field));
    let uid = entry.as_ref().and_then(|entry| number(entry, 2)).or_else(|| id(user));
    let uid = uid.with_context(|| format!("the image has no user {user:?} in /etc/passwd"))?;
    let lines = || groups.lines().map(|line| line.split(':').collect::<Vec<_>>());
    if !group.is_empty() {
        let named = lines().find(|line| line.first() == Some(&group));
        let gid = named.and_then(|line| number(&line, 2)).or_else(|| id(group));
        let gid = gid.with_context(|| format!("the image has no group {group:?} in /etc/group"))?;
        return Ok(User { uid, gid, additional_gids: Vec::new() });
    }
    let gid = entry.as_ref().and_then(|entry| number(entry, 3)).unwrap_or(0);
    let name = entry.as_ref().and_then(|entry| entry.first().copied()).unwrap_or(user);
    let lists_him = |line: &Vec<&str>| line.get(3).is_some_and(|all| all.split(',').any(|one| one == name));
    let additional_gids = lines().filter(lists_him).filter_map(|line| number(&line, 2)).collect();
    Ok(User { uid, gid, additional_gids })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nwww:x:33:34::/var/www:/bin/false\n";
    const GROUP: &str = "root:x:0:\nwww:x:34:\ntls:x:40:root,www\naudio:x:41:www\nodd:x::www\n";

    fn ids(text: &str) -> (u32, u32, Vec<u32>) {
        let User { uid, gid, additional_gids } = find(text, PASSWD, GROUP).unwrap();
        (uid, gid, additional_gids)
    }

    #[test]
    fn names_and_numbers_are_looked_up_in_the_image() {
        assert_eq!(ids(""), (0, 0, vec![40]));
        assert_eq!(ids("www"), (33, 34, vec![40, 41]));
        assert_eq!(ids("33"), (33, 34, vec![40, 41]));
        assert_eq!(ids("www:tls"), (33, 40, vec![]));
        assert_eq!(ids("1000"), (1000, 0, vec![]));
        assert_eq!(ids("1000:1001"), (1000, 1001, vec![]));
        assert_eq!(ids("33:audio"), (33, 41, vec![]));
    }

    #[test]
    fn an_unknown_name_is_an_error() {
        for (text, part) in [
            ("nobody", "user \"nobody\""),
            ("www:nogroup", "group \"nogroup\""),
            ("-1", "\"-1\""),
            ("4294967295", "4294967295"),
            ("0:4294967295", "4294967295"),
        ] {
            let error = find(text, PASSWD, GROUP).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
