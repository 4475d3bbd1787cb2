//! A page that never comes keeps only the helper waiting, and that one can be killed; the next process is read by the next helper.

use crate::subject::program;
use profiler::memory::{MemoryError, MemoryReader, Range, Unreadable};
use profiler::model::process::Pid;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

#[test]
fn a_page_that_never_comes_costs_its_deadline_and_nothing_else() {
    if !crate::ready(&["gcc"]) {
        return;
    }
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/subjects/unanswered.c");
    let built = std::env::temp_dir().join(format!("profiler-unanswered-{}", std::process::id()));
    assert!(Command::new("gcc").arg("-o").arg(&built).arg(source).status().unwrap().success());
    let mut child = Command::new(&built).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    std::fs::remove_file(&built).unwrap();
    let addresses: Vec<u64> = line.split_whitespace().map(|address| address.parse().unwrap()).collect();
    let [waits, there] = addresses[..] else { panic!("it printed {line:?}: has this kernel no userfaultfd?") };
    let pid = Pid(child.id());
    let mut memory = MemoryReader::new(Some(program()));
    let one = |address| [Range { address, length: 1 }];
    assert_eq!(memory.read(pid, &one(there), soon()).unwrap(), [Ok(vec![42])]);
    let helper = memory.pid().unwrap();
    let begun = Instant::now();
    let hung = memory.read(pid, &one(waits), Instant::now() + Duration::from_secs(1));
    assert!(matches!(hung, Err(MemoryError::Deadline)), "{hung:?}");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(memory.read(pid, &one(there), soon()).unwrap(), [Ok(vec![42])]);
    assert_ne!(memory.pid().unwrap(), helper);
    let until = soon();
    while Path::new(&format!("/proc/{helper}")).exists() {
        assert!(Instant::now() < until, "the helper that hung is still there");
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(memory.read(pid, &one(there), soon()).unwrap(), [Err(Unreadable::Gone)]);
}

#[test]
fn a_helper_has_one_right_and_reads_what_is_there() {
    if !crate::ready(&[]) {
        return;
    }
    let mut memory = MemoryReader::new(Some(program()));
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|at| at as u8).collect();
    let at = |offset: usize, length: u32| Range { address: bytes.as_ptr() as u64 + offset as u64, length };
    // More ranges, and more bytes, than one request holds.
    let ranges: Vec<Range> = (0..600).map(|number| at(number * 5_000, 4_999)).chain([Range { address: 16, length: 8 }]).collect();
    let read = memory.read(Pid(std::process::id()), &ranges, soon()).unwrap();
    for (number, read) in read[..600].iter().enumerate() {
        assert_eq!(read.as_deref(), Ok(&bytes[number * 5_000..number * 5_000 + 4_999]), "{number}");
    }
    assert_eq!(read[600], Err(Unreadable::NotThere));
    assert!(matches!(memory.read(Pid(1), &[at(0, u32::MAX)], soon()), Err(MemoryError::TooLong(_))));
    let status = std::fs::read_to_string(format!("/proc/{}/status", memory.pid().unwrap())).unwrap();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    // CAP_SYS_PTRACE is the 19th.
    assert_eq!([field("CapPrm:"), field("CapEff:")], ["0000000000080000", "0000000000080000"]);
    assert_eq!([field("CapInh:"), field("CapBnd:"), field("CapAmb:")], ["0000000000000000"; 3].map(str::to_owned));
    assert_eq!((field("Uid:").split('\t').next().unwrap(), field("Seccomp:").as_str(), field("NoNewPrivs:").as_str()), ("65534", "2", "1"));
}

#[test]
fn a_helper_that_was_killed_is_replaced() {
    if !crate::ready(&[]) {
        return;
    }
    let mut memory = MemoryReader::new(Some(program()));
    let byte = [9_u8];
    let ranges = [Range { address: byte.as_ptr() as u64, length: 1 }];
    assert_eq!(memory.read(Pid(std::process::id()), &ranges, soon()).unwrap(), [Ok(vec![9])]);
    let helper = rustix::process::Pid::from_raw(memory.pid().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(helper, rustix::process::Signal::KILL).unwrap();
    assert_eq!(memory.read(Pid(std::process::id()), &ranges, soon()).unwrap(), [Ok(vec![9])]);
}
