//! `org.systemd.property.NAME` annotations: properties of the scope that config.json has no words for.
//!
//! Engines hand on annotations that their users wrote (CVE-2024-3154). A scope runs no program of its own, but a unit
//! can have the host rebooted, or other units started and stopped, and that is nothing that a container may ask for.

use anyhow::{Context, Result, anyhow, bail};
use dbus::gvariant::Value;

use super::Property;
use crate::spec::{Map, Str};

const PREFIX: &str = "org.systemd.property.";

/// They are what the runtime itself says, and relies on.
const OURS: [&str; 7] =
    ["PIDs", "PIDFDs", "Slice", "Delegate", "DelegateControllers", "DelegateSubgroup", "Controller"];

/// They act on the host or on other units: reboots, and dependencies that start or stop what they name. Those that
/// only order (After) or only follow (PartOf) are free.
const BEYOND: [&str; 24] = [
    "FailureAction",
    "SuccessAction",
    "FailureActionExitStatus",
    "SuccessActionExitStatus",
    "JobTimeoutAction",
    "JobTimeoutRebootArgument",
    "StartLimitAction",
    "RebootArgument",
    "Wants",
    "Requires",
    "RequiresOverridable",
    "BindsTo",
    "Upholds",
    "WantedBy",
    "RequiredBy",
    "UpheldBy",
    "Conflicts",
    "OnFailure",
    "OnSuccess",
    "Triggers",
    "PropagatesStopTo",
    "PropagatesReloadTo",
    "RequiresMountsFor",
    "WantsMountsFor",
];

/// The properties that annotations ask for, in the document's order.
///
/// # Errors
/// Names the annotation.
pub(super) fn properties(annotations: &Map<'_, Str<'_>>) -> Result<Vec<Property>> {
    let ours = annotations.0.iter().filter_map(|(key, text)| Some((key, key.strip_prefix(PREFIX)?, text)));
    ours.map(|(key, name, text)| property(name, text).with_context(|| format!("annotations[\"{}\"]", &**key)))
        .collect()
}

fn property(name: &str, text: &str) -> Result<Property> {
    if name.len() < 3 || !name.bytes().all(|b| b.is_ascii_alphabetic()) {
        bail!("{name:?} is no name of a property: three letters or more, and nothing but letters");
    }
    if OURS.contains(&name) {
        bail!("{name} is the runtime's own to set");
    }
    if BEYOND.contains(&name) {
        bail!("{name} reaches beyond the container, so it can't be set from its config.json");
    }
    let value = Value::parse(text)?;
    // As systemd-run and runc have it: TimeoutStopSec in seconds is TimeoutStopUSec on the bus.
    match name.strip_suffix("Sec").filter(|stem| stem.ends_with(|c: char| c.is_ascii_lowercase())) {
        Some(stem) => Ok(Property::new(&format!("{stem}USec"), microseconds(&value)?)),
        None => Ok(Property::new(name, value)),
    }
}

fn microseconds(value: &Value) -> Result<Value> {
    let seconds = match value {
        Value::Byte(n) => i128::from(*n),
        Value::Int16(n) => i128::from(*n),
        Value::Uint16(n) => i128::from(*n),
        Value::Int32(n) => i128::from(*n),
        Value::Uint32(n) => i128::from(*n),
        Value::Int64(n) => i128::from(*n),
        Value::Uint64(n) => i128::from(*n),
        Value::Double(n) if *n >= 0.0 && *n < 1e12 => return Ok(Value::Uint64((n * 1e6) as u64)),
        other => bail!("{other} is no number of seconds"),
    };
    let scaled =
        u64::try_from(seconds * 1_000_000).map_err(|_| anyhow!("{value} is no number of seconds"))?;
    Ok(Value::Uint64(scaled))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Result<String, String> {
        let key = Str(format!("{PREFIX}{name}").into());
        let map = Map(vec![(Str("other".into()), Str("'x'".into())), (key, Str(text.into()))]);
        match properties(&map) {
            Ok(found) => Ok(found.iter().map(|p| format!("{}={}", p.name, p.value)).collect::<String>()),
            Err(e) => Err(format!("{e:#}")),
        }
    }

    #[test]
    fn what_engines_set_is_taken() {
        for (name, text, read_as) in [
            ("TimeoutStopUSec", "uint64 123456789", "TimeoutStopUSec=123456789"),
            ("CollectMode", "'inactive'", "CollectMode='inactive'"),
            ("DefaultDependencies", "true", "DefaultDependencies=true"),
            ("After", "['crio.service']", "After=['crio.service']"),
        ] {
            assert_eq!(read(name, text).unwrap(), read_as);
        }
    }

    #[test]
    fn seconds_become_microseconds() {
        assert_eq!(read("TimeoutStopSec", "5").unwrap(), "TimeoutStopUSec=5000000");
        assert_eq!(read("RuntimeMaxSec", "0.5").unwrap(), "RuntimeMaxUSec=500000");
        assert_eq!(read("RuntimeMaxSec", "uint64 7").unwrap(), "RuntimeMaxUSec=7000000");
        for text in ["-1", "'5'", "uint64 18446744073709551615", "-0.5", "true"] {
            assert!(read("RuntimeMaxSec", text).unwrap_err().contains("seconds"), "{text}");
        }
    }

    #[test]
    fn dangerous_and_invalid_ones_are_refused_by_name() {
        for name in
            ["FailureAction", "OnFailure", "Wants", "BindsTo", "Conflicts", "Slice", "PIDs", "Delegate"]
        {
            let error = read(name, "'reboot'").unwrap_err();
            assert!(error.starts_with(&format!("annotations[\"org.systemd.property.{name}\"]: ")), "{error}");
        }
        for name in ["", "ab", "A=b\nExecStart", "A B C", "Äbc", "A-B-C"] {
            assert!(read(name, "true").unwrap_err().contains("no name of a property"), "{name}");
        }
        assert!(read("MemoryHigh", "lots").unwrap_err().contains("MemoryHigh"));
    }
}
