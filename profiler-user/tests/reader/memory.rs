//! What a reader has in memory of a file that it reads from end to end: as much as it may, not the file.

use super::{Folder, ask, reader, run};
use profiler::reader::REST_BYTES_MAX;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Functions with long names: 86 MB of symbols.
const FUNCTIONS: u64 = 450_000;
/// A machine that is busy with others.
const SLACK_BYTES: u64 = 6 << 20;

/// Pages of files that a process has in memory, bytes.
fn file_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kb = status.lines().find_map(|line| line.strip_prefix("RssFile:")).and_then(|rest| rest.split_whitespace().next());
    kb.and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) << 10
}

#[test]
fn a_large_file_is_not_kept_in_memory() {
    let folder = Folder::new("large");
    let (code, program) = (folder.0.join("large.s"), folder.0.join("large.o"));
    let mut text = String::from(".text\n");
    for number in 0..FUNCTIONS {
        let name = format!("a_function_with_a_name_that_is_long_{number:0130}");
        writeln!(text, ".type {name}, @function\n{name}: ret").unwrap();
    }
    std::fs::write(&code, text).unwrap();
    run(Command::new("gcc").args(["-shared", "-nostdlib", "-o", program.to_str().unwrap(), code.to_str().unwrap()]));
    let size = std::fs::metadata(&program).unwrap().len();
    assert!(size > REST_BYTES_MAX + 2 * SLACK_BYTES, "the file has {size} bytes");

    let mut reader = reader();
    ask(&mut reader, Path::new("/proc/self/exe"), &[1]).unwrap();
    let (pid, done, peak) = (reader.pid().unwrap(), AtomicBool::new(false), AtomicU64::new(0));
    let offsets: Vec<u64> = (0..4000).map(|number| 0x1000 + number * FUNCTIONS / 4000).collect();
    let found = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                peak.fetch_max(file_bytes(pid), Ordering::Relaxed);
                std::thread::sleep(Duration::from_micros(500));
            }
        });
        let found = ask(&mut reader, &program, &offsets).unwrap();
        done.store(true, Ordering::Relaxed);
        found
    });
    let named = found.iter().filter(|lines| lines.as_ref().is_ok_and(|lines| lines[0].name.starts_with("a_function"))).count();
    assert!(named > 3900, "{named} of 4000 have names");
    let peak = peak.into_inner();
    assert!(peak > 0 && peak < REST_BYTES_MAX + SLACK_BYTES, "{peak} bytes of files of {size} were in memory");
    assert_eq!(reader.pid(), Some(pid), "it has died of it");
}
