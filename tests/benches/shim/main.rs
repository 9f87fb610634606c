//! `make bench`, where containerd is installed: what a pod costs below it, with our shim and runtime, and with Debian's.
//!
//! Measured are the memory and threads of shims, `ctr run --rm /bin/true` and `ctr task exec /bin/true`, and the CPU
//! time that one exec takes of the shim and the runtime that it calls. Both take turns, round by round, in one containerd.
//!
//!     cargo bench -p ampoule-tests --bench shim
//!
//! `ROUNDS` (30) and `PODS` (10) can be set in the environment. Needs root, containerd, its runc shim and runc.

use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ampoule_tests::{Bundle, HostContainerd, RUNTIME_TYPE, has_containerd};

/// Who is measured: a name, and containerd's for it.
const CONTENDERS: [(&str, &str); 2] =
    [("ampoule", RUNTIME_TYPE), ("containerd-shim-runc-v2, runc", "io.containerd.runc.v2")];

fn main() -> ExitCode {
    if !has_containerd() {
        println!("shim: not measured: containerd is not installed");
        return ExitCode::SUCCESS;
    }
    let number = |name: &str, otherwise| match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is no count")),
        Err(_) => otherwise,
    };
    let (rounds, pods) = (number("ROUNDS", 30), number("PODS", 10));
    println!("{rounds} rounds, {pods} pods; medians, and the mean of CPU time; ms, and kB for each shim\n");
    println!(
        "{:<30} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "", "run --rm", "exec", "exec CPU", "PSS", "private", "threads"
    );
    let bundle = Bundle::sleeping();
    let rootfs = bundle.rootfs().to_str().expect("a UTF-8 path").to_owned();
    let bench = Bench { containerd: HostContainerd::start(), rootfs, pods };
    let times = bench.times(rounds);
    for (times, (name, runtime)) in times.into_iter().zip(CONTENDERS) {
        let memory = bench.memory(runtime);
        let ms = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1e3);
        let [run, exec, cpu] = times;
        let (run, exec, cpu) = (ms(median(run)), ms(median(exec)), ms(mean(&cpu)));
        println!(
            "{name:<30} {run:>8} {exec:>8} {cpu:>8} {:>8} {:>8} {:>8}",
            memory.proportional, memory.private, memory.threads
        );
    }
    ExitCode::SUCCESS
}

struct Bench {
    containerd: HostContainerd,
    rootfs: String,
    pods: usize,
}

/// Means over all shims.
#[derive(Default)]
struct Memory {
    proportional: usize,
    private: usize,
    threads: usize,
}

impl Bench {
    /// For each contender: run, exec, and the CPU time of exec.
    fn times(&self, rounds: usize) -> [[Vec<Duration>; 3]; 2] {
        let boxes: Vec<(String, i32)> = (CONTENDERS.iter().enumerate())
            .map(|(n, (_, runtime))| {
                let name = format!("box{n}");
                let before = self.containerd.shims();
                self.run(runtime, &["-d"], &name, &["sleep", "100000"]);
                let shim = self.containerd.shims().into_iter().find(|pid| !before.contains(pid));
                (name, shim.expect("a shim"))
            })
            .collect();
        let mut times: [[Vec<Duration>; 3]; 2] = Default::default();
        // The first round warms up.
        for round in 0..=rounds {
            for turn in 0..CONTENDERS.len() {
                let n = (turn + round) % CONTENDERS.len();
                let run =
                    clock(|| self.run(CONTENDERS[n].1, &["--rm"], &format!("r{round}-{n}"), &["exit", "0"]));
                let (name, shim) = &boxes[n];
                let before = cpu(*shim);
                let id = format!("e{round}");
                let exec = clock(|| {
                    let args = ["task", "exec", "--exec-id", &id, name, "/bin/probe", "exit", "0"];
                    self.containerd.ctr(&args).ok();
                });
                let all = [run, exec, cpu(*shim) - before];
                if round > 0 {
                    times[n].iter_mut().zip(all).for_each(|(list, time)| list.push(time));
                }
            }
        }
        for (name, _) in &boxes {
            self.remove(name);
        }
        times
    }

    fn memory(&self, runtime: &str) -> Memory {
        let names: Vec<String> = (0..self.pods).map(|n| format!("pod{n}")).collect();
        for name in &names {
            self.run(runtime, &["-d"], name, &["sleep", "100000"]);
        }
        let shims = self.containerd.shims();
        assert_eq!(shims.len(), self.pods, "a shim for each pod");
        let mut memory = Memory::default();
        for pid in &shims {
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("read smaps_rollup");
            memory.proportional += figure(&rollup, "Pss:");
            memory.private += figure(&rollup, "Private_Dirty:");
            memory.threads += fs::read_dir(format!("/proc/{pid}/task")).expect("list threads").count();
        }
        for name in &names {
            self.remove(name);
        }
        let mean = |sum: usize| sum / shims.len();
        Memory {
            proportional: mean(memory.proportional),
            private: mean(memory.private),
            threads: mean(memory.threads),
        }
    }

    fn run(&self, runtime: &str, flags: &[&str], id: &str, questions: &[&str]) {
        let mut args = vec!["run", "--runtime", runtime];
        args.extend(flags);
        args.extend(["--rootfs", &self.rootfs, id, "/bin/probe"]);
        args.extend(questions);
        self.containerd.ctr(&args).ok();
    }

    fn remove(&self, id: &str) {
        self.containerd.ctr(&["task", "kill", "-s", "KILL", id]).ok();
        ampoule_tests::wait_for("its end", || self.containerd.status(id) == "STOPPED");
        self.containerd.ctr(&["task", "rm", id]);
        self.containerd.ctr(&["container", "rm", id]).ok();
    }
}

fn figure(rollup: &str, name: &str) -> usize {
    let line = rollup.lines().find(|line| line.starts_with(name)).expect("the figure");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
}

fn clock(work: impl FnOnce()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}

/// What a process and the children that it waited for have used: fields 14 to 17 of its stat (proc(5)), in ticks of
/// 10 ms. The scheduler's own count is finer, but has the process alone.
fn cpu(pid: i32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("read stat");
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks: u64 = fields[11..15].iter().map(|field| field.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 10)
}

/// Of what is counted in ticks that are longer than it takes.
fn mean(times: &[Duration]) -> Duration {
    times.iter().sum::<Duration>() / times.len() as u32
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
