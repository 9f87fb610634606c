//! The child's side: from the fork to the command.

use crate::message::{Level, Speaker};
use crate::sys::{self, EACCES, ENOENT, ENOEXEC, ENOTDIR, Errno, Start, Text};
use ampoule_pause::signals::{self, Set};
use ampoule_pause::text::{self, Digits, Joined};

/// Room for PATH_MAX bytes, which is the longest path with its end, and one more to notice what is longer.
type Path = [u8; 4097];

/// What pause was before it made itself an init, for the command to inherit.
pub struct Before {
    /// The signals that were blocked.
    pub blocked: Set,
    /// Whether SIGCHLD was ignored.
    pub chld_ignored: bool,
    /// The process group, which the child has left as soon as either side says so.
    pub group: i32,
}

/// Becomes the command. Returns only when that failed, with the exit code: tini's, which are the shell's.
#[inline(never)] // So that its room is not part of the stack that pause itself goes on with.
pub fn become_command(start: Start, command: usize, before: &Before, speaker: &Speaker) -> u8 {
    let mut path: Path = [0; 4097];
    let mut entry = [0; 32];
    let mut start = start;
    lead(before.group);
    hand_over_listening(&mut start, &mut entry);
    if before.chld_ignored {
        let _ = sys::ignore(signals::CHLD);
    }
    sys::block(before.blocked);
    let name = start.argument(command);
    let errno = execute(&mut start, command, name, &mut path);
    complain(name.bytes(), errno, speaker)
}

/// Makes a new group and, where pause is in the foreground of the terminal, puts the group there in its stead.
/// (tini takes the foreground from whoever has it.)
fn lead(group_before: i32) {
    let _ = sys::lead_group(0);
    // It fails when stdin is no terminal, or not ours.
    if sys::foreground() == Ok(group_before) {
        let _ = sys::set_foreground(sys::pid());
    }
}

/// Passes the sockets of sd_listen_fds(3) on: they are for the process that LISTEN_PID names, which was pause.
/// LISTEN_PIDFDID (systemd 259) would name pause still more surely.
fn hand_over_listening<'s>(start: &mut Start<'s>, entry: &'s mut [u8; 32]) {
    if start.variable(b"LISTEN_PID").and_then(|pid| text::number(pid, u32::MAX)) == Some(sys::parent()) {
        let mut room = Digits::default();
        Joined::new(entry).add(b"LISTEN_PID=").add(text::decimal(sys::pid() as u32, &mut room));
        start.replace_variable(b"LISTEN_PID", Text::ended(entry));
        start.replace_variable(b"LISTEN_PIDFDID", Text::EMPTY);
    }
}

/// Becomes the command as execvp(3) does: looked for in PATH unless its name has a slash, and run by a shell when
/// the kernel knows no way to execute it.
fn execute<'s>(start: &mut Start<'s>, command: usize, name: Text<'s>, room: &'s mut Path) -> Errno {
    let mut found = name;
    let errno = if text::base_name(found.bytes()) != found.bytes() {
        start.execute(found, command)
    } else {
        let errno = search(start, command, name.bytes(), room);
        found = Text::ended(room);
        errno
    };
    if errno == ENOEXEC { start.interpret(found, command) } else { errno }
}

/// Tries the directories of PATH. What it tried last is left in `room`.
fn search(start: &Start, command: usize, name: &[u8], room: &mut Path) -> Errno {
    // What glibc searches when there is no PATH.
    let mut directories = start.variable(b"PATH").unwrap_or(b"/bin:/usr/bin");
    let mut errno = ENOENT;
    loop {
        let end = directories.iter().position(|byte| *byte == b':').unwrap_or(directories.len());
        let (directory, rest) = directories.split_at_checked(end).unwrap_or_default();
        let mut path = Joined::new(room);
        path.add(directory);
        // Without a directory, it is the working directory.
        if end > 0 {
            path.add(b"/");
        }
        // A path that is too long is nowhere. An empty name would find the directory.
        if path.add(name).add(b"\0").has_room() && !name.is_empty() {
            match start.execute(Text::ended(room), command) {
                EACCES => errno = EACCES,
                ENOENT | ENOTDIR => {}
                other => return other,
            }
        }
        match rest {
            [_, rest @ ..] => directories = rest,
            [] => return errno,
        }
    }
}

/// Says why the command could not be executed; returns the exit code for it.
fn complain(name: &[u8], errno: Errno, speaker: &Speaker) -> u8 {
    let (code, why) = match errno {
        ENOENT => (127, Text::of(c"exec: No such file or directory: ")),
        EACCES => (126, Text::of(c"exec: Permission denied: ")),
        _ => {
            speaker.count(Level::Fatal, Text::of(c"exec: error "), errno as u32);
            return 1;
        }
    };
    speaker.say(Level::Fatal, why, name);
    code
}
