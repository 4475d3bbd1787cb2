//! Values of options, as people write them.

use crate::args::Pids;
use profiler::encode::Format;
use profiler_common::sampling::{DELAY_NS_MAX, SAMPLE_BYTES_MAX};
use std::time::Duration;

/// `1`, `1,2`, `1, 2`, or what pidof(8) prints: `1 2`.
pub(crate) fn parse_pids(text: &str) -> Result<Pids, String> {
    let words = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty());
    let pids = words.map(|word| word.parse().ok().filter(|pid| *pid > 0).ok_or_else(|| format!("{word:?} is no process id")));
    match pids.collect::<Result<Vec<u32>, String>>() {
        Ok(pids) if pids.is_empty() => Err("there is no process id in it; give one such as 1234, or several such as 1234,5678".to_owned()),
        Ok(pids) => Ok(Pids(pids)),
        Err(why) => Err(format!("{why}; give one such as 1234, several such as 1234,5678, or processes by name with --comm")),
    }
}

pub(crate) fn parse_format(text: &str) -> Result<Format, String> {
    Format::parse(text).ok_or_else(|| "expected pprof, text, folded or svg".to_owned())
}

/// `30s`, `5m`, `1h`, `500ms`, or a bare number of seconds; more than nothing.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| "expected a time such as 30s, 5m, 1h, 500ms or 10".to_owned())?;
    let seconds = match unit {
        "ms" => number / 1000.0,
        "" | "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err(format!("unknown unit {unit:?}: use ms, s, m or h")),
    };
    // A year is more than any window.
    if seconds <= 0.0 || seconds > 31_536_000.0 {
        Err("must be more than 0 and at most a year".to_owned())
    } else {
        Ok(Duration::from_secs_f64(seconds))
    }
}

/// `1ns`, `10us`, `5ms`, `1s`, or a bare number of nanoseconds; from 1 ns to 4 s.
pub(crate) fn parse_delay(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| "expected a time such as 1ns, 10us or 5ms".to_owned())?;
    let scale = match unit {
        "" | "ns" => 1,
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        _ => return Err(format!("unknown unit {unit:?}: use ns, us, ms or s")),
    };
    match number.checked_mul(scale) {
        Some(0) => Err("must be more than 0; 1ns records each".to_owned()),
        Some(delay) if delay <= DELAY_NS_MAX => Ok(delay),
        _ => Err("at most 4s".to_owned()),
    }
}

/// `128M`, `1G`, `65536`: bytes, with k, M, G in powers of 1024; at least 32 MiB.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| "expected a size such as 128M".to_owned())?;
    let shift = match unit.trim_end_matches("iB").trim_end_matches('B') {
        "" => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        "g" | "G" => 30,
        _ => return Err(format!("unknown unit {unit:?}: use K, M or G")),
    };
    let bytes = number.checked_shl(shift).filter(|bytes| bytes >> shift == number).ok_or("too large")?;
    Ok(bytes)
}

pub(crate) fn parse_sample_bytes(text: &str) -> Result<u64, String> {
    parse_size(text).and_then(|bytes| match bytes {
        0 => Err("must be more than 0; 1 records every block".to_owned()),
        bytes if bytes > SAMPLE_BYTES_MAX => Err("at most 1G".to_owned()),
        bytes => Ok(bytes),
    })
}

/// `2%`, `0.5%`, or the bare number of percent.
pub(crate) fn parse_share(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').trim_end().parse::<f64>() {
        Ok(percent) if (0.01..=100.0).contains(&percent) => Ok(percent / 100.0),
        Ok(_) => Err("must be from 0.01% to 100%".to_owned()),
        Err(_) => Err("expected percent, such as 2%".to_owned()),
    }
}

pub(crate) fn parse_memory_limit(text: &str) -> Result<u64, String> {
    parse_size(text).and_then(|bytes| if bytes < 64 << 20 { Err("at least 64M is needed".to_owned()) } else { Ok(bytes) })
}

pub(crate) fn parse_unwind_memory(text: &str) -> Result<u64, String> {
    parse_size(text).and_then(|bytes| if bytes < 1 << 20 { Err("at least 1M is needed".to_owned()) } else { Ok(bytes) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_read() {
        assert_eq!(parse_size("128M"), Ok(128 << 20));
        assert_eq!(parse_size("1GiB"), Ok(1 << 30));
        assert!(parse_size("99999999999G").is_err());
        assert_eq!((parse_delay("1"), parse_delay("10us"), parse_delay("4s")), (Ok(1), Ok(10_000), Ok(4_000_000_000)));
        assert!(parse_delay("0").is_err() && parse_delay("5s").is_err() && parse_delay("1h").is_err());
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!((parse_share("2%"), parse_share("0.5")), (Ok(0.02), Ok(0.005)));
        assert_eq!(parse_duration("10"), Ok(Duration::from_secs(10)));
    }
}
