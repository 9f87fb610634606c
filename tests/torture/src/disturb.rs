//! `torture kill` and `torture fault`: every system call of every verb, of either process, on each kind of bundle.

use crate::bundle_kind::BundleKind;
use crate::case::{Case, Failure, call_name, record};
use crate::isolation::IsolationReport;
use crate::sample::{self, Amount};
use crate::syscalls;
use crate::tally::{Figures, Tally};
use crate::verb::{Side, Verb};
use nix::errno::Errno;
use std::cell::OnceCell;
use std::sync::Mutex;

/// What a process meets at a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disturbance {
    /// SIGKILL just before a call.
    Kill,
    /// An error instead of the call.
    Fault,
}

/// Which of all cases are tried.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Which {
    /// Only this verb; may be repeated
    #[arg(long, value_name = "VERB")]
    pub verb: Vec<Verb>,
    /// Only this process of the verb
    #[arg(long)]
    pub side: Option<Side>,
    /// Only this kind of bundle; may be repeated
    #[arg(long, value_name = "KIND")]
    pub bundle: Vec<BundleKind>,
    /// Only the Nth system call
    #[arg(long, value_name = "N")]
    pub call: Option<usize>,
    /// Only processes that are held for a moment before they are killed, so that others get ahead
    #[arg(long)]
    pub held: bool,
    /// Only this error, such as EIO
    #[arg(long, value_parser = parse_errno)]
    pub errno: Option<Errno>,
}

fn parse_errno(name: &str) -> Result<Errno, String> {
    syscalls::errno(name).ok_or_else(|| format!("no system call is given {name}"))
}

/// What is disturbed: a verb, one of its processes and a bundle; with what an undisturbed run has shown.
pub struct Scenario {
    verb: Verb,
    side: Side,
    kind: BundleKind,
    calls: Vec<i64>,
    report: Option<IsolationReport>,
}

impl Scenario {
    /// Whether another process of the verb's goes on while this one, the runtime, is held at a call.
    fn has_company(&self, call: usize) -> bool {
        let is_born = || self.calls[..call - 1].contains(&libc::SYS_clone3);
        self.side == Side::Runtime && self.verb.sides().len() > 1 && (self.verb == Verb::Start || is_born())
    }
}

/// Plays them. `recorded` is what was recorded for the other of the two, or is from now on.
pub fn run(how: Disturbance, which: &Which, amount: Amount, recorded: &OnceCell<Vec<Scenario>>) -> Figures {
    let tally = Tally::begin(if how == Disturbance::Kill { "kill" } else { "fault" });
    let forms = recorded.get_or_init(|| forms(which, amount, &tally));
    let cases: Vec<(Case, Option<&IsolationReport>)> =
        forms.iter().flat_map(|form| cases(how, which, form)).collect();
    tally.announce(cases.len());
    sample::work(&cases, amount, |(case, report)| {
        let verdict = case.play(*report);
        let tried = verdict.call.is_some() || !verdict.found.is_empty();
        tally.note(&case.to_string(), &call_name(&verdict), tried, verdict.untidy, &verdict.found);
    });
    tally.end()
}

/// Records each form undisturbed.
fn forms(which: &Which, amount: Amount, tally: &Tally) -> Vec<Scenario> {
    let wanted = |list: &[Verb], one: Verb| list.is_empty() || list.contains(&one);
    let mut all = Vec::new();
    for kind in
        BundleKind::ALL.into_iter().filter(|kind| which.bundle.is_empty() || which.bundle.contains(kind))
    {
        for verb in Verb::all().iter().filter(|verb| wanted(&which.verb, **verb) && verb.suits(kind)) {
            for side in verb.sides().iter().filter(|side| which.side.is_none_or(|wanted| wanted == **side)) {
                all.push((*verb, *side, kind));
            }
        }
    }
    let forms = Mutex::new(Vec::new());
    // All of them, however little time there is.
    let whole = Amount { cases: None, time: None, ..amount };
    sample::work(&all, whole, |(verb, side, kind)| match record(*verb, *side, *kind) {
        Ok((calls, report)) => {
            forms.lock().expect("the forms").push(Scenario {
                verb: *verb,
                side: *side,
                kind: *kind,
                calls,
                report,
            });
        }
        Err(why) => {
            let again = Case { verb: *verb, side: *side, kind: *kind, call: 0, errno: None, held: false };
            tally.note(&again.to_string(), "undisturbed", true, false, &[(Failure::Broken, why)]);
        }
    });
    let mut forms = forms.into_inner().expect("the forms");
    forms.sort_by_key(|form| (form.kind, form.verb, form.side));
    forms
}

fn cases<'a>(
    how: Disturbance,
    which: &Which,
    form: &'a Scenario,
) -> Vec<(Case, Option<&'a IsolationReport>)> {
    let Scenario { verb, side, kind, calls, report } = form;
    let case = |call, errno, held| {
        (Case { verb: *verb, side: *side, kind: *kind, call, errno, held }, report.as_ref())
    };
    let numbered = calls.iter().enumerate().map(|(index, number)| (index + 1, *number));
    let numbered = numbered.filter(|(call, _)| which.call.is_none_or(|wanted| wanted == *call));
    match how {
        Disturbance::Kill => numbered
            .flat_map(|(call, _)| [(call, false), (call, true)])
            .filter(|(call, held)| if *held { form.has_company(*call) } else { !which.held })
            .map(|(call, held)| case(call, None, held))
            .collect(),
        Disturbance::Fault => numbered
            .flat_map(|(call, number)| syscalls::errors(number).iter().map(move |errno| (call, *errno)))
            .filter(|(_, errno)| which.errno.is_none_or(|wanted| wanted == *errno))
            .map(|(call, errno)| case(call, Some(errno), false))
            .collect(),
    }
}
