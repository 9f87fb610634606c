//! Scopes, over the bus (org.freedesktop.systemd1(5)): a handful of calls, each with an end.

use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use dbus::gvariant::Value;
use dbus::wire::{Call, Writer};
use dbus::{Bus, Refusal};

use crate::plan::systemd::{Property, Scope};

/// systemd's own limit for a call, and for what follows from it.
const START_LIMIT: Duration = Duration::from_secs(25);
/// Everything else is asked of a systemd that has answered before.
const LIMIT: Duration = Duration::from_secs(10);
/// Where there is most likely nothing to be done, nobody should wait for it.
const SHORT_LIMIT: Duration = Duration::from_secs(2);

const SYSTEMD: Call<'static> = Call {
    destination: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
    member: "",
    signature: "",
    body: Vec::new(),
};

/// Has systemd make a scope with `pid` in it, and waits until that is done.
///
/// # Errors
/// No bus; systemd's own words; a unit of that name that is active.
pub fn start(scope: &Scope, properties: &[Property], pid: i32) -> Result<()> {
    let mut bus = Bus::connect(scope.user, LIMIT)?;
    watch(&mut bus, &scope.unit)?;
    bus.must_end_in(START_LIMIT);
    let pids = Value::Array("u".to_owned(), vec![Value::Uint32(pid as u32)]);
    let pids = Property { name: "PIDs".to_owned(), value: pids, dispensable: false };
    let mut wanted: Vec<&Property> = properties.iter().chain([&pids]).collect();
    let mut reset = false;
    let job = loop {
        let refusal = match bus.call(transient(scope, &wanted))? {
            Ok(texts) => break texts.into_iter().next().unwrap_or_default(),
            Err(refusal) => refusal,
        };
        if refusal.is("UnitExists") {
            if reset {
                bail!("a unit {} is active already: another container's?", scope.unit);
            }
            // One that has failed is kept until somebody has seen it. What systemd says against that, the next attempt tells.
            let _ = bus.call(about("ResetFailedUnit", &scope.unit))?;
            reset = true;
            continue;
        }
        do_without(&mut wanted, refusal)?;
    };
    match &*finished(&mut bus, &job)? {
        "done" => Ok(()),
        result => {
            // Its failure is the error to report.
            let _ = bus.call(about("ResetFailedUnit", &scope.unit))?;
            bail!("systemd: its start ended as {result:?} (see journalctl -u {})", scope.unit)
        }
    }
}

/// Has systemd give a scope other limits.
///
/// # Errors
/// No bus; systemd's own words.
pub fn set(scope: &Scope, properties: &[Property]) -> Result<()> {
    let mut bus = Bus::connect(scope.user, LIMIT)?;
    let mut wanted: Vec<&Property> = properties.iter().collect();
    loop {
        let mut out = Writer::default();
        out.text(&scope.unit);
        // At run time only: it is not there after a boot.
        out.u32(1);
        out.array(8, |out| wanted.iter().for_each(|p| out.property(&p.name, &p.value)));
        let call = Call { member: "SetUnitProperties", signature: "sba(sv)", body: out.bytes, ..SYSTEMD };
        match bus.call(call)? {
            Ok(_) => return Ok(()),
            Err(refusal) => do_without(&mut wanted, refusal)?,
        }
    }
}

/// Leaves out what systemd doesn't take and what is written to the cgroup anyway.
fn do_without(wanted: &mut Vec<&Property>, refusal: Refusal) -> Result<()> {
    let known = wanted.len();
    wanted.retain(|p| !(p.dispensable && refusal.mentions(&p.name)));
    if wanted.len() == known { Err(refusal.into()) } else { Ok(()) }
}

/// Has systemd end a scope, waits until that is done, and has it forget how it ended. One that is not there is fine;
/// a unit of the same name in another slice is somebody else's. `made` tells whether the scope's cgroup is there.
///
/// systemd is asked even when it is not: a runtime that was killed while it had the scope made leaves a start that
/// is still to come, and this call gets behind it.
///
/// # Errors
/// No bus; systemd's own words.
pub fn stop(scope: &Scope, made: bool) -> Result<()> {
    let mut bus = Bus::connect(scope.user, if made { LIMIT } else { SHORT_LIMIT })?;
    watch(&mut bus, &scope.unit)?;
    if slice_of(&mut bus, &scope.unit)?.as_ref() != Some(&scope.slice) {
        return Ok(());
    }
    bus.must_end_in(LIMIT);
    let mut out = Writer::default();
    out.text(&scope.unit);
    out.text("replace");
    let call = Call { member: "StopUnit", signature: "ss", body: out.bytes, ..SYSTEMD };
    match bus.call(call)? {
        Ok(texts) => drop(finished(&mut bus, texts.first().map_or("", String::as_str))?),
        Err(refusal) if refusal.is("NoSuchUnit") => return Ok(()),
        Err(refusal) => return Err(refusal.into()),
    }
    // Refused for one that hasn't failed.
    let _ = bus.call(about("ResetFailedUnit", &scope.unit))?;
    Ok(())
}

/// Where a unit that systemd knows lies. None: it knows no such unit, or it is no scope.
fn slice_of(bus: &mut Bus, unit: &str) -> Result<Option<String>> {
    let texts = match bus.call(about("GetUnit", unit))? {
        Err(refusal) if refusal.is("NoSuchUnit") => return Ok(None),
        other => other?,
    };
    let path = texts.first().map_or("", String::as_str);
    match bus.call(property(path, "org.freedesktop.systemd1.Scope", "Slice"))? {
        Err(refusal) if refusal.is("UnknownInterface") || refusal.is("UnknownProperty") => Ok(None),
        other => Ok(other?.into_iter().next()),
    }
}

fn property<'a>(path: &'a str, of: &str, name: &str) -> Call<'a> {
    let mut out = Writer::default();
    out.text(of);
    out.text(name);
    let interface = "org.freedesktop.DBus.Properties";
    Call { path, interface, member: "Get", signature: "ss", body: out.bytes, ..SYSTEMD }
}

/// Whether a systemd answers: its version.
///
/// # Errors
/// No bus, or nobody of that name on it.
pub fn version(user: bool) -> Result<String> {
    let mut bus = Bus::connect(user, LIMIT)?;
    let texts = bus.call(property(SYSTEMD.path, SYSTEMD.interface, "Version"))??;
    texts.into_iter().next().ok_or_else(|| anyhow!("systemd tells no version"))
}

/// Who has queued a job is sent its end in any case; Subscribe would have systemd tell of every unit's every change.
fn watch(bus: &mut Bus, unit: &str) -> Result<()> {
    bus.listen(&format!(
        "type='signal',sender='{}',interface='{}',member='JobRemoved',arg2='{unit}'",
        SYSTEMD.destination, SYSTEMD.interface
    ))
}

fn about(member: &'static str, unit: &str) -> Call<'static> {
    let mut out = Writer::default();
    out.text(unit);
    Call { member, signature: "s", body: out.bytes, ..SYSTEMD }
}

fn transient(scope: &Scope, properties: &[&Property]) -> Call<'static> {
    let mut out = Writer::default();
    out.text(&scope.unit);
    // A job that is under way for the same name is somebody else's.
    out.text("fail");
    out.array(8, |out| properties.iter().for_each(|p| out.property(&p.name, &p.value)));
    out.array(8, |_| {});
    Call { member: "StartTransientUnit", signature: "ssa(sv)a(sa(sv))", body: out.bytes, ..SYSTEMD }
}

/// How a job ended: `done`, or another word of systemd's.
fn finished(bus: &mut Bus, job: &str) -> Result<String> {
    bus.signal("JobRemoved", |texts| match texts {
        [path, _, result] if path == job => Some(result.clone()),
        _ => None,
    })
}
