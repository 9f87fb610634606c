//! The program and its environment (config.md#process).

use anyhow::{Result, bail};

use super::draft::Draft;
use super::step::PayloadStep;
use crate::spec::Process;

/// Plans up to the exec, which is returned: it comes last.
pub(super) fn program(draft: &mut Draft<'_>, process: &Process<'_>) -> Result<PayloadStep> {
    let mut env: Vec<String> = Vec::with_capacity(process.env.len() + 1);
    for (n, pair) in process.env.iter().enumerate() {
        match pair.split_once('=') {
            Some((name, _)) if !name.is_empty() => env.push(pair.to_string()),
            _ => bail!("process.env[{n}]: {:?}, expected NAME=value", &**pair),
        }
    }
    let Some(name) = process.args.first().filter(|name| !name.is_empty()) else {
        bail!("process.args: empty, expected the program to run");
    };
    if !env.iter().any(|pair| pair.starts_with("HOME=")) {
        draft.step(PayloadStep::HomeFromPasswd { uid: process.user.uid });
    }
    let (preserved, listening) = (draft.options.preserve_fds, draft.options.listen_fds);
    if listening > 0 {
        env.push(format!("LISTEN_FDS={listening}"));
        draft.step(PayloadStep::SetListenPid);
    }
    let from = 3 + preserved + listening;
    draft.spawn.close_from = from;
    draft.step(PayloadStep::SetCloseOnExec { from });
    let path = env.iter().rev().find_map(|pair| pair.strip_prefix("PATH=")).unwrap_or_default().to_owned();
    draft.step(PayloadStep::FindProgram { name: name.to_string(), path });
    Ok(PayloadStep::Exec { args: process.args.iter().map(|a| a.to_string()).collect(), env })
}
