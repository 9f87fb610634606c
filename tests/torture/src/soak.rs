//! `torture soak`: anything at any time. Eight workers call verbs on fifty containers at random, kill every fourth call,
//! and each container must always be removable.

use crate::case::{Failure, Finding, unexplained, words};
use crate::sample::Rng;
use crate::tally::{Figures, Tally};
use ampoule_tests::{Bundle, Call, Outcome, Runtime, Scratch, leftovers, mountinfo};
use nix::sys::signal::Signal;
use serde_json::json;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{RwLock, mpsc};
use std::time::{Duration, Instant};

const CONTAINERS: usize = 50;
const WORKERS: usize = 8;

/// What is called, and how often in comparison.
const VERBS: &[(usize, &[&str])] = &[
    (6, &["create", "--bundle", "BUNDLE", "ID"]),
    (5, &["start", "ID"]),
    (3, &["run", "--detach", "--bundle", "BUNDLE", "ID"]),
    (3, &["exec", "ID", "/bin/probe", "cwd"]),
    (2, &["exec", "--detach", "ID", "/bin/probe", "sleep", "1000", ",", "cat", "/ID"]),
    (2, &["pause", "ID"]),
    (3, &["resume", "ID"]),
    (1, &["update", "--pids-limit", "90", "ID"]),
    (1, &["kill", "ID", "TERM"]),
    (2, &["kill", "ID", "KILL"]),
    (1, &["kill", "--all", "ID", "KILL"]),
    (2, &["state", "ID"]),
    (1, &["ps", "ID"]),
    (1, &["events", "--stats", "ID"]),
    (1, &["list"]),
    (2, &["delete", "ID"]),
    (3, &["delete", "--force", "ID"]),
];

/// One of the fifty. Whoever reads may call any verb; who writes is alone with it.
struct Slot {
    id: String,
    bundle: Bundle,
    alone: RwLock<()>,
}

struct Soak {
    home: Scratch,
    slots: Vec<Slot>,
    end: Instant,
    tally: Tally,
    again: String,
}

/// Goes on for so long.
pub fn run(time: Duration, seed: u64) -> Figures {
    let home = Scratch::new();
    fs::create_dir(home.path().join("tmp")).expect("make a directory");
    let name = home.path().file_name().expect("a name").to_string_lossy().into_owned();
    let slots = (0..CONTAINERS).map(|n| slot(format!("{name}-{n}x"), n)).collect();
    let again = format!("torture soak --seconds {} --seed {seed}", time.as_secs());
    let tally = Tally::begin("soak");
    let soak = Soak { home, slots, end: Instant::now() + time, tally, again };
    let open = descriptors();
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let soak = &soak;
            scope.spawn(move || {
                soak.work(worker, Rng::new(seed.wrapping_mul(31).wrapping_add(worker as u64)))
            });
        }
    });
    for slot in &soak.slots {
        soak.remove(slot, "end");
    }
    soak.look_back(&name, open);
    soak.tally.end()
}

/// Every second one is in a user namespace.
fn slot(id: String, number: usize) -> Slot {
    let bundle = Bundle::asking(&["sleep", "1000", ",", "cat", &format!("/{id}")]);
    let bundle = if number.is_multiple_of(2) { bundle } else { bundle.with_user_namespace() };
    let bundle = bundle.with(|c| c["linux"]["resources"]["pids"] = json!({ "limit": 100 }));
    bundle.write();
    Slot { id, bundle, alone: RwLock::new(()) }
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("list descriptors").count()
}

impl Soak {
    fn root(&self) -> PathBuf {
        self.home.path().join("state")
    }

    fn work(&self, worker: usize, mut rng: Rng) {
        while Instant::now() < self.end {
            let slot = &self.slots[rng.below(CONTAINERS)];
            if rng.below(40) == 0 {
                let _alone = slot.alone.write().expect("the lock");
                self.remove(slot, &format!("remove-{worker}"));
                continue;
            }
            let _with_others = slot.alone.read().expect("the lock");
            let (verb, kill) = (any(&mut rng), rng.below(4) == 0);
            let delay = Duration::from_micros(rng.below(12_000) as u64);
            let called = self.guarded(|| {
                let call = self.call(slot, verb, &format!("worker-{worker}"));
                if kill {
                    std::thread::sleep(delay);
                    call.signal(Signal::SIGKILL);
                }
                self.finish(slot, verb[0], call, worker)
            });
            let found = match called {
                Err(why) => Some((Failure::Hung, why)),
                Ok(_) if kill => None,
                Ok(outcome) => explained(verb[0], &outcome),
            };
            self.note(verb[0], found.into_iter().collect());
        }
    }

    fn note(&self, what: &str, found: Vec<Finding>) {
        self.tally.note(&self.again, what, true, false, &found);
    }

    fn guarded<T>(&self, work: impl FnOnce() -> T) -> Result<T, String> {
        catch_unwind(AssertUnwindSafe(work)).map_err(|panic| words(&*panic))
    }

    fn call(&self, slot: &Slot, verb: &[&str], name: &str) -> Call {
        let bundle = slot.bundle.path().to_str().expect("a UTF-8 path");
        let mut command = Command::new(Runtime::get().program());
        command
            .arg("--root")
            .arg(self.root())
            .env("TMPDIR", self.home.path().join("tmp"))
            .stdin(Stdio::null());
        command.args(verb.iter().map(|word| word.replace("BUNDLE", bundle).replace("ID", &slot.id)));
        Call::start(command, self.home.path().join(name))
    }

    /// Waits for a call's end. What somebody else pauses meanwhile goes on when it is resumed, and not before.
    fn finish(&self, slot: &Slot, verb: &str, call: Call, worker: usize) -> Outcome {
        if !matches!(verb, "create" | "start" | "run" | "exec") {
            return call.finish();
        }
        let (done, is_done) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                while is_done.recv_timeout(Duration::from_secs(3)) == Err(mpsc::RecvTimeoutError::Timeout) {
                    let _ = self
                        .guarded(|| self.call(slot, &["resume", "ID"], &format!("resume-{worker}")).finish());
                }
            });
            // Dropped in any case, or the other would wait for ever.
            let _done = done;
            call.finish()
        })
    }

    /// Removes a container, after which nothing of it may be there.
    fn remove(&self, slot: &Slot, name: &str) {
        let removed = self.guarded(|| self.call(slot, &["delete", "--force", "ID"], name).finish());
        let mut found = Vec::new();
        match removed {
            Err(why) => found.push((Failure::Hung, why)),
            Ok(outcome) if outcome.code != 0 => found.push((Failure::Left, outcome.to_string())),
            Ok(_) => {}
        }
        let left = left_of(&slot.id, &self.root().join(&slot.id));
        if !left.is_empty() {
            found.push((Failure::Left, left.join(", ")));
            clear(&slot.id, &self.root().join(&slot.id));
        }
        self.note("delete --force", found);
    }

    /// When all is over: what is there of the whole.
    fn look_back(&self, name: &str, open: usize) {
        let mut left = left_of(name, &self.root().join("none"));
        for dir in [self.root(), self.home.path().join("tmp")] {
            let entries = fs::read_dir(dir).into_iter().flatten().flatten();
            left.extend(entries.map(|entry| format!("file {}", entry.path().display())));
        }
        if descriptors() > open {
            left.push(format!("{} descriptors more than before", descriptors() - open));
        }
        let found = if left.is_empty() { None } else { Some((Failure::Left, left.join(", "))) };
        self.note("the end", found.into_iter().collect());
    }
}

fn any(rng: &mut Rng) -> &'static [&'static str] {
    let mut place = rng.below(VERBS.iter().map(|(weight, _)| weight).sum());
    for (weight, verb) in VERBS {
        match place.checked_sub(*weight) {
            None => return verb,
            Some(rest) => place = rest,
        }
    }
    unreachable!("the weights' sum is above each place")
}

/// A failure needs a reason; an exec's code may be its program's, which somebody else has killed.
fn explained(verb: &str, outcome: &Outcome) -> Option<Finding> {
    let is_programs = verb == "exec" && matches!(outcome.code, 137 | 143);
    // `list` tells of each container that goes away while it looks.
    if outcome.code == 0 || is_programs || verb == "list" && outcome.code == 1 {
        None
    } else {
        unexplained(outcome)
    }
}

/// What there is of a name: a process that was killed may take a moment to go.
fn left_of(name: &str, state: &Path) -> Vec<String> {
    let end = Instant::now() + Duration::from_secs(2);
    let mut left = leftovers::processes(name);
    while !left.is_empty() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
        left = leftovers::processes(name);
    }
    left.extend(leftovers::cgroups(name));
    let mounts = mountinfo().into_iter().filter(|m| m.target.contains(name) || m.root.contains(name));
    left.extend(mounts.map(|mount| format!("mount {}", mount.target)));
    left.extend(state.exists().then(|| format!("state {}", state.display())));
    left
}

fn clear(name: &str, state: &Path) {
    leftovers::kill_processes(name);
    leftovers::remove_cgroups(name);
    let _ = fs::remove_dir_all(state);
}
