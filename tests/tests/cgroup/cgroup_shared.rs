//! Limits that show beside others only: what each of two containers gets of something that both want all of.

use ampoule_tests::{
    Bundle, Cgroups, Container, ampoule_only, has_cgroup_v1, has_cgroup_v2_controller, null_disk, require,
    wait_for,
};
use serde_json::{Value, json};

/// Two containers that were started together.
struct Two([Container; 2]);

impl Two {
    fn started(bundles: [Bundle; 2]) -> Self {
        let two = bundles.map(Container::of);
        two.iter().for_each(|one| drop(one.create().ok()));
        two.iter().for_each(|one| drop(one.start().ok()));
        Self(two)
    }

    /// A number of the cgroup of each.
    fn each(&self, number: impl Fn(&Cgroups) -> u64) -> [u64; 2] {
        [0, 1].map(|n| number(&self.0[n].cgroups()))
    }

    /// How many times as much as the first the second got of something, of which both together had `all`. Not by the
    /// clock: on a busy host they have to share with others, too.
    fn ratio(&self, all: u64, used: impl Fn(&Cgroups) -> u64) -> f64 {
        let before = self.each(&used);
        let mut got = [0, 0];
        wait_for("both to have used much", || {
            let now = self.each(&used);
            got = [now[0] - before[0], now[1] - before[1]];
            got[0] + got[1] >= all
        });
        // So that one that got nothing divides nothing.
        got[1] as f64 / got[0].max(1) as f64
    }
}

/// The ratio of two weights, or half or twice that.
#[track_caller]
fn assert_about(ratio: f64, weights: [u64; 2]) {
    let expected = weights[1] as f64 / weights[0] as f64;
    assert!(expected > 2.5, "weights of {weights:?} would hardly show");
    assert!((expected / 2.0..expected * 2.0).contains(&ratio), "weights of {weights:?} gave 1:{ratio:.1}");
}

/// Wants all of the first CPU.
fn burning(mut cpu: Value) -> Bundle {
    cpu["cpus"] = json!("0");
    cpu["mems"] = json!("0");
    Bundle::asking(&["burn", "1000000"]).with(|c| c["linux"]["resources"]["cpu"] = cpu)
}

/// Microseconds.
fn cpu_time(cgroups: &Cgroups) -> u64 {
    if has_cgroup_v1("cpuacct") {
        return cgroups.read("cpuacct", "cpuacct.usage").parse::<u64>().unwrap() / 1000;
    }
    number_in(&cgroups.read("cpu", "cpu.stat"), "usage_usec")
}

/// `KEY NUMBER`, on a line of its own.
fn number_in(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {key} in {text}")).parse().unwrap()
}

/// Whether either version of cgroups has all of these here.
fn has(controllers: &[&str]) -> bool {
    controllers.iter().all(|c| has_cgroup_v1(c) || has_cgroup_v2_controller(c))
}

#[test]
fn two_containers_share_a_cpu_by_their_weights() {
    require!(has(&["cpu", "cpuset"]), "the cpu and the cpuset controller");
    let two = Two::started([1024, 4096].map(|shares| burning(json!({ "shares": shares }))));
    let file = if has_cgroup_v1("cpu") { "cpu.shares" } else { "cpu.weight" };
    let weights = two.each(|cgroups| cgroups.read("cpu", file).parse().unwrap());
    assert_about(two.ratio(2_000_000, cpu_time), weights);
}

#[test]
fn an_idle_container_gets_what_another_leaves() {
    ampoule_only!("runc knows cpu idle since 1.2");
    require!(has(&["cpu", "cpuset"]), "the cpu and the cpuset controller");
    let two = Two::started([burning(json!({})), burning(json!({ "idle": 1 }))]);
    // The kernel's own weights are 1024 and 3.
    let ratio = two.ratio(2_000_000, cpu_time);
    assert!(ratio < 0.05, "the idle one got {ratio:.3} of what the busy one did");
}

/// How often it used more than its quota in a period: a fifth of a CPU, after a second in which it used none.
fn bursts(burst: Value) -> u64 {
    // Afterwards it stays, for systemd removes the group that nobody is in.
    let bundle = Bundle::asking(&["sleep", "1", ",", "burn", "200", ",", "sleep", "1000"]).with(|c| {
        c["linux"]["resources"]["cpu"] = json!({ "quota": 20_000, "period": 100_000, "burst": burst });
    });
    let container = Container::of(bundle);
    container.launch();
    wait_for("the CPU to be used", || container.output().stdout.matches("sleeping").count() == 2);
    number_in(&container.cgroups().read("cpu", "cpu.stat"), "nr_bursts")
}

#[test]
fn a_program_may_use_what_it_has_saved_of_its_quota() {
    ampoule_only!("runc knows cpu burst since 1.2");
    require!(has(&["cpu"]), "a cpu controller");
    assert_eq!(bursts(Value::Null), 0);
    assert!(bursts(json!(20_000)) > 0);
}

/// Wants all of the disk, which has no need to hold what is written.
fn writing(disk: (u64, u64), block_io: Value) -> Bundle {
    Bundle::asking(&["direct", "/dev/disk", "10000000"]).with(|c| {
        c["linux"]["devices"] =
            json!([{ "path": "/dev/disk", "type": "b", "major": disk.0, "minor": disk.1 }]);
        c["linux"]["resources"] = json!({
            "devices": [{ "allow": true, "type": "b", "major": disk.0, "minor": disk.1, "access": "rw" }],
            "blockIO": block_io,
        });
    })
}

/// Bytes.
fn written(disk: (u64, u64), cgroups: &Cgroups) -> u64 {
    let disk = format!("{}:{} ", disk.0, disk.1);
    let on_v1 = has_cgroup_v1("blkio");
    let (file, key) = if on_v1 { ("blkio.bfq.io_service_bytes", "Write ") } else { ("io.stat", "wbytes=") };
    let text = cgroups.read("blkio", file);
    let mut rest = text.lines().filter_map(|line| line.strip_prefix(&disk));
    let number = rest.find_map(|line| line.split_once(key)?.1.split_whitespace().next()?.parse().ok());
    number.unwrap_or(0)
}

#[test]
fn two_containers_share_a_disk_by_their_weights() {
    let disk = null_disk();
    require!(disk.is_some(), "a null disk below BFQ", named "only root of the test machine has one to give");
    let disk = disk.unwrap();
    let for_this_one = json!([{ "major": disk.0, "minor": disk.1, "weight": 500 }]);
    for heavy in [json!({ "weight": 500 }), json!({ "weight": 100, "weightDevice": for_this_one })] {
        let two = Two::started([json!({ "weight": 100 }), heavy].map(|block_io| writing(disk, block_io)));
        wait_for("both to write", || two.each(|cgroups| written(disk, cgroups)).iter().all(|b| *b > 0));
        // BFQ shares among those that are ready, and on a busy machine one of two is not always: so the best of some
        // tries, and no end above.
        let ratios: Vec<f64> =
            (0..4).map(|_| two.ratio(32 << 20, |cgroups| written(disk, cgroups))).collect();
        assert!(ratios.iter().any(|ratio| *ratio > 2.5), "weights of 100 and 500 gave 1:{ratios:.1?}");
    }
}
