//! Amounts as Go's tools take them: lengths of time, numbers of bytes.

use std::time::Duration;

/// A length of time greater than 0, as Go writes it (time.ParseDuration): `1h2m3.5s`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let mut text = text.strip_prefix('+').unwrap_or(text);
    let mut total: u64 = 0;
    while !text.is_empty() {
        let unit = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (value, rest) = text.split_at(unit);
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let (unit, rest) = rest.split_at(end);
        let scale: u64 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        total = total.checked_add(scaled(value, scale)?)?;
        text = rest;
    }
    // Go's longest: 292 years.
    (1..=i64::MAX as u64).contains(&total).then(|| Duration::from_nanos(total))
}

/// Bytes as runc takes them: `-1`, `1024`, `64m`, `1.5GiB`; a letter is a power of 1024.
///
/// # Errors
/// What was expected.
pub(super) fn bytes(text: &str) -> Result<i64, String> {
    let read = || {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let power = match &*unit.trim_start().to_ascii_lowercase() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 1,
            "m" | "mb" | "mib" => 2,
            "g" | "gb" | "gib" => 3,
            "t" | "tb" | "tib" => 4,
            "p" | "pb" | "pib" => 5,
            _ => return None,
        };
        scaled(number, 1 << (10 * power))?.try_into().ok()
    };
    match text {
        "-1" => Ok(-1),
        _ => read().ok_or_else(|| "expected bytes such as 1048576, 64k, 512m or 1.5g, or -1".into()),
    }
}

/// `1.5` of a unit. What is below the smallest unit is cut off.
fn scaled(value: &str, scale: u64) -> Option<u64> {
    let (whole, part) = value.split_once('.').unwrap_or((value, ""));
    if part.contains('.') || whole.len() + part.len() == 0 {
        return None;
    }
    let number = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<u64>().ok() };
    // More digits than these are below 1 of any unit.
    let part = &part[..part.len().min(15)];
    let fraction = u128::from(number(part)?) * u128::from(scale) / 10u128.pow(part.len() as u32);
    number(whole)?.checked_mul(scale)?.checked_add(fraction as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_go_writes_them() {
        for (text, ms) in [
            ("1s", 1000),
            ("500ms", 500),
            ("1m30s", 90_000),
            ("+1.5h", 5_400_000),
            (".5s", 500),
            ("1.s", 1000),
            ("0.1234999999999999999999999s", 123),
            ("2000us", 2),
            ("3000µs", 3),
            ("4000000ns", 4),
            ("1h0m0s", 3_600_000),
        ] {
            assert_eq!(duration(text).unwrap().as_millis(), ms, "{text}");
        }
    }

    #[test]
    fn no_time_and_what_is_no_time_is_refused() {
        for text in [
            "",
            "0",
            "0s",
            "-1s",
            "5",
            "s",
            "1x",
            "1..s",
            ".s",
            "0.1ns",
            "99999999999999999999s",
            "1e3s",
            "1s5",
            "9999999999h",
            "1 s",
            "+",
            "--1s",
        ] {
            assert!(duration(text).is_none(), "{text}");
        }
    }

    #[test]
    fn sizes_are_read_as_runc_reads_them() {
        for (text, wanted) in [
            ("-1", -1),
            ("0", 0),
            ("9223372036854775807", i64::MAX),
            ("64k", 64 << 10),
            ("64 KB", 64 << 10),
            ("512m", 512 << 20),
            ("1.5GiB", 3 << 29),
            ("2T", 2 << 40),
            ("1p", 1 << 50),
            ("7b", 7),
        ] {
            assert_eq!(bytes(text), Ok(wanted), "{text}");
        }
        for text in
            ["", "-2", "k", "1x", "1ib", "1kk", "1.2.3", "0x10", "9223372036854775808", "8192p", "+1", "1e3"]
        {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
