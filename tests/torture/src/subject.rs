//! The container that a case is tried on: created, asked for its isolation, and removed without a trace.

use crate::bundle_kind::BundleKind;
use crate::isolation::{self, IsolationReport};
use crate::lie;
use crate::trace::{self, Act, Target, Trace};
use crate::verb::Verb;
use ampoule_tests::{ConsoleSocket, Container, Outcome, Terminal, mountinfo, patience};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// The container, and what its verbs need.
pub struct Subject {
    /// The container.
    pub container: Container,
    kind: BundleKind,
    console: ConsoleSocket,
    init: Option<i32>,
}

impl Subject {
    /// Nothing is made yet but the bundle. `verb` decides whether its program sleeps at its end.
    pub fn new(kind: BundleKind, verb: Verb) -> Self {
        let mut container = Container::of(kind.bundle());
        kind.name(&mut container.bundle, &container.id, verb != Verb::Run);
        for name in ["out", "tmp"] {
            fs::create_dir(container.bundle.beside(name)).expect("make a directory of the bundle");
        }
        let console = ConsoleSocket::listen(&container.bundle.beside("console"));
        Self { container, kind, console, init: None }
    }

    fn beside(&self, name: &str) -> String {
        self.container.bundle.beside(name).to_str().expect("a UTF-8 path").to_owned()
    }

    /// The arguments of a verb that makes the container, with config.json written.
    pub fn args_for(&self, verb: &str, flags: &[&str]) -> Vec<String> {
        let (pid_file, console) = (self.beside("out/pid"), self.beside("console"));
        let mut all = vec!["--pid-file", &pid_file];
        all.extend(flags);
        if self.kind.has_terminal() {
            all.extend(["--console-socket", &console]);
        }
        self.container.args_for(verb, &all).into_iter().map(str::to_owned).collect()
    }

    /// The arguments of an exec of the reporting program.
    pub fn exec_args(&self, flags: &[&str], sleeps: bool) -> Vec<String> {
        let (pid_file, console) = (self.beside("out/exec"), self.beside("console"));
        let mut all = vec!["exec", "--pid-file", &pid_file];
        all.extend(flags);
        if flags.contains(&"--tty") {
            all.extend(["--console-socket", &console]);
        }
        all.extend([self.container.id.as_str(), "/bin/probe"]);
        let questions = isolation::questions(sleeps, &self.container.id);
        all.into_iter().map(str::to_owned).chain(questions).collect()
    }

    fn command(&self, args: &[String]) -> Command {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut command = self.container.command(&args);
        // Whatever it makes for the time being, it makes here, where nobody else does.
        command.env("TMPDIR", self.beside("tmp"));
        command
    }

    /// `create`, undisturbed.
    pub fn create(&mut self) {
        let args = Verb::Create.args(self);
        self.container.spawn(self.command(&args), "create").finish().ok();
        self.init = Some(self.container.pid());
    }

    /// A verb, undisturbed.
    pub fn call(&self, verb: Verb) -> Outcome {
        self.container.spawn(self.command(&verb.args(self)), &verb.name()).finish()
    }

    /// A verb, traced.
    pub fn trace(&self, verb: Verb, target: Target, act: Act) -> (Trace, Outcome) {
        let args = verb.args(self);
        let mut command = self.command(&args);
        if act != Act::Count {
            command.env(lie::DISTURBED, "1");
        }
        let file = |end: &str| {
            File::create(format!("{}.{end}", self.beside(&verb.name()))).expect("make a file for the output")
        };
        command.stdout(file("stdout")).stderr(file("stderr"));
        let call = format!("{command:?}");
        let trace = trace::run(command, target, act);
        let [stdout, stderr] = ["stdout", "stderr"].map(|end| self.output(&verb.name(), end));
        let outcome = Outcome { code: trace.code, stdout, stderr, call };
        (trace, outcome)
    }

    fn output(&self, name: &str, end: &str) -> String {
        let bytes = fs::read(self.container.bundle.beside(&format!("{name}.{end}"))).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The report of the program that a verb has started. `create` is followed by its `start`.
    pub fn report(&self, verb: Verb) -> Result<IsolationReport, String> {
        if verb == Verb::Create {
            let start = self.call(Verb::Start);
            if start.code != 0 {
                return Err(format!("start after create: {}", start.stderr.trim()));
            }
        }
        let file = match verb {
            Verb::Start => Verb::Create,
            verb => verb,
        };
        let is_shown = verb == Verb::ExecTty || (self.kind.has_terminal() && verb.starts_init());
        let said = match is_shown {
            true => self.shown_by(&mut self.console.receive())?,
            false => self.written_to(&file.name(), verb != Verb::Run && verb != Verb::Exec)?,
        };
        let mut report = IsolationReport::read(&said, &self.container.id, self.container.bundle.path())?;
        if verb.starts_init() && verb != Verb::Run && self.kind.has_cgroup() {
            report.and_limits_of(self.container.pid());
        }
        Ok(report)
    }

    fn written_to(&self, name: &str, sleeps: bool) -> Result<String, String> {
        let end = Instant::now() + patience();
        loop {
            let said = self.output(name, "stdout");
            if !sleeps || said.lines().any(|line| line == isolation::SLEEPS) {
                return Ok(said);
            }
            if Instant::now() > end {
                return Err(format!("the program never said all: {said:?}"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn shown_by(&self, terminal: &mut Terminal) -> Result<String, String> {
        let end = Instant::now() + patience();
        // Twice: the id stands behind it in the arguments, which are told first.
        while Instant::now() < end {
            if terminal.has_shown(&format!("{}\r\n", isolation::SLEEPS)) {
                return Ok(terminal.expect(isolation::SLEEPS));
            }
        }
        Err("the program never said all on its terminal".into())
    }

    /// What `state` says of it, or "none" if it says that there is none; and the name of its init's program.
    pub fn status(&self) -> (String, String) {
        let state = self.container.call(&["state", &self.container.id]);
        let state: serde_json::Value = serde_json::from_str(&state.stdout).unwrap_or_default();
        let program = fs::read_to_string(format!("/proc/{}/comm", state["pid"])).unwrap_or_default();
        (state["status"].as_str().unwrap_or("none").to_owned(), program.trim().to_owned())
    }

    /// Whether any of its programs has said this.
    pub fn has_said(&self, text: &str) -> bool {
        ["create", "run-detached", "exec-detached"]
            .iter()
            .any(|name| self.output(name, "stdout").contains(text))
    }

    /// Whether the init ends, which it may take a moment to do.
    pub fn init_ends(&self) -> bool {
        let init = Pid::from_raw(self.init.expect("an init that was created"));
        let end = Instant::now() + patience();
        while Instant::now() < end {
            let stat = fs::read_to_string(format!("/proc/{init}/stat")).unwrap_or_default();
            if stat.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with(['Z', 'X'])) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        false
    }

    /// Whether the container's cgroup says that it is frozen, past the runtime.
    pub fn is_frozen(&self) -> bool {
        let init = self.init.expect("an init that was created");
        let cgroups = ampoule_tests::Cgroups::of(init);
        let v1 = cgroups.dir("freezer").join("freezer.state");
        match v1.exists() {
            true => cgroups.read("freezer", "freezer.state") != "THAWED",
            false => cgroups.read("", "cgroup.events").contains("frozen 1"),
        }
    }

    /// All that there still is of the container, temporary files too.
    pub fn leftovers(&self) -> Vec<String> {
        let mut left = self.container.leftovers();
        for (dir, known) in [("out", &["pid", "exec"][..]), ("tmp", &[])] {
            let names = fs::read_dir(self.container.bundle.beside(dir)).into_iter().flatten().flatten();
            let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
            left.extend(
                names.filter(|name| !known.contains(&name.as_str())).map(|n| format!("file {dir}/{n}")),
            );
        }
        left
    }

    /// Removes the container, as whoever called the verb would; what can't be removed, or is still there.
    pub fn remove(&self) -> Vec<String> {
        let deleted = self.container.delete_force();
        let mut left = self.leftovers();
        if deleted.code != 0 {
            left.insert(0, format!("delete --force: {} {}", deleted.code, deleted.stderr.trim()));
        }
        self.clear();
        left
    }

    /// Removes by hand what the runtime left, so that the next case finds nothing.
    pub fn clear(&self) {
        if !self.container.leftovers().is_empty() {
            self.container.clean_up();
            let bundle = self.container.bundle.path();
            for mount in mountinfo().iter().rev().filter(|mount| Path::new(&mount.target).starts_with(bundle))
            {
                let _ = umount2(mount.target.as_str(), MntFlags::MNT_DETACH);
            }
        }
        let _ = fs::remove_dir_all(self.container.state_root());
    }
}

/// Does something on a thread of its own that sees a host of this kind: without cgroups, if the kind has none.
pub fn on_host_of<T: Send>(kind: BundleKind, work: impl FnOnce() -> T + Send) -> std::thread::Result<T> {
    if kind.has_cgroup() {
        return std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    }
    std::thread::scope(|scope| {
        let hidden = || {
            unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace of its own");
            let slave = MsFlags::MS_REC | MsFlags::MS_SLAVE;
            mount(None::<&str>, "/", None::<&str>, slave, None::<&str>)
                .expect("no mount goes back to the host");
            umount2("/sys/fs/cgroup", MntFlags::MNT_DETACH).expect("a host without cgroups");
            work()
        };
        scope.spawn(hidden).join()
    })
}
