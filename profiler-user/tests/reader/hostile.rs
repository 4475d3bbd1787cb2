//! What bad files, and bad luck, do to a reader: nothing that outlives the one file.

use super::{Folder, INLINING, address_of, ask, id, reader, reader_with, run};
use profiler::model::address::FileAddress;
use profiler::reader::{ReaderError, SymbolizeRequest};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn a_file_that_is_no_elf_is_bad_and_the_next_one_is_read() {
    let folder = Folder::new("garbage");
    let garbage = folder.0.join("garbage");
    std::fs::write(&garbage, b"\x7fELF\x02\x01\x01 and then nothing that makes sense").unwrap();
    let mut reader = reader();
    assert!(matches!(ask(&mut reader, &garbage, &[1]), Err(ReaderError::Refused(_))));
    assert!(matches!(ask(&mut reader, &garbage, &[1]), Err(ReaderError::RememberedBad)));
    assert!(matches!(ask(&mut reader.another(), &garbage, &[1]), Err(ReaderError::RememberedBad)));
    assert_eq!(ask(&mut reader, Path::new("/proc/self/exe"), &[1]).unwrap().len(), 1);
}

#[test]
fn a_reader_that_is_killed_is_replaced() {
    let mut reader = reader();
    let program = Path::new("/proc/self/exe");
    ask(&mut reader, program, &[1]).unwrap();
    let first = reader.pid().unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(first as i32).unwrap(), rustix::process::Signal::KILL).unwrap();
    ask(&mut reader, program, &[1]).unwrap();
    assert_ne!(reader.pid().unwrap(), first);
}

/// Threads of this process that keep readers, and descriptors that it has open.
fn kept() -> (usize, usize) {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")));
    let keepers = threads.filter(|name| name.as_ref().is_ok_and(|name| name.starts_with("profiler-keeper"))).count();
    (keepers, std::fs::read_dir("/proc/self/fd").unwrap().count())
}

#[test]
fn readers_that_are_gone_leave_nothing_behind() {
    // Alone in a process: other tests open files, too.
    if std::env::var_os("PROFILER_TEST_ALONE").is_none() {
        let name = "hostile::readers_that_are_gone_leave_nothing_behind";
        let mut alone = Command::new(std::env::current_exe().unwrap());
        assert!(run(alone.args(["--exact", name]).env("PROFILER_TEST_ALONE", "1")).contains("1 passed"));
        return;
    }
    let before = kept();
    for _ in 0..50 {
        let mut reader = reader();
        ask(&mut reader, Path::new("/proc/self/exe"), &[1]).unwrap();
        reader.stop();
        assert_eq!(reader.pid(), None);
        ask(&mut reader, Path::new("/proc/self/exe"), &[1]).unwrap();
    }
    let until = Instant::now() + Duration::from_secs(5);
    while kept() != before && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(kept(), before);
    let children = std::fs::read_to_string(format!("/proc/self/task/{}/children", rustix::thread::gettid().as_raw_nonzero())).unwrap();
    assert_eq!(children, "");
}

#[test]
fn a_reader_that_does_not_answer_is_killed_at_its_deadline() {
    let folder = Folder::new("deadline");
    let program = folder.compile("program", INLINING, &["-g"]);
    let mut reader = reader_with(Duration::from_millis(500));
    ask(&mut reader, Path::new("/proc/self/exe"), &[1]).unwrap();
    let pid = rustix::process::Pid::from_raw(reader.pid().unwrap() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let started = Instant::now();
    let file = File::open(&program).unwrap();
    assert!(matches!(reader.identify(id(&file), file.as_fd()), Err(ReaderError::Deadline(_))));
    assert!(started.elapsed() < Duration::from_secs(3));
    assert_eq!(reader.pid(), None);
    assert!(matches!(ask(&mut reader, &program, &[1]), Err(ReaderError::RememberedBad)));
    assert_eq!(ask(&mut reader, Path::new("/proc/self/exe"), &[1]).unwrap().len(), 1);
}

/// The name of the function at an address of a program, by its symbols or its debug information.
fn name_at(path: &Path, at: u64) -> String {
    ask(&mut reader(), path, &[at]).unwrap().remove(0).unwrap().pop().unwrap().name.to_string()
}

#[test]
fn a_file_that_only_root_may_read_and_that_is_deleted_is_read_by_its_descriptor() {
    let folder = Folder::new("deleted");
    let program = folder.compile("program", INLINING, &["-g", "-O1"]);
    let outer = address_of(&program, "outer");
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let file = File::open(&program).unwrap();
    let object = id(&file);
    std::fs::remove_file(&program).unwrap();
    let request = SymbolizeRequest { object, file: file.as_fd(), debug: None, alt: None, offsets: &[FileAddress(outer)] };
    let lines = reader().symbolize(request).unwrap().remove(0).unwrap();
    assert_eq!(lines.last().map(|line| (&*line.name, line.start_line)), Some(("outer", 6)));
}

#[test]
fn a_debug_link_to_a_pipe_is_followed_by_nobody() {
    let folder = Folder::new("pipe");
    let program = folder.compile("program", INLINING, &["-O1"]);
    let outer = address_of(&program, "outer");
    let link = folder.0.join("program.debug");
    std::fs::write(&link, "x").unwrap();
    run(Command::new("objcopy").arg(format!("--add-gnu-debuglink={}", link.display())).arg(&program));
    std::fs::remove_file(&link).unwrap();
    run(Command::new("mkfifo").arg(&link));
    let started = Instant::now();
    assert_eq!(name_at(&program, outer), "outer");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_file_that_is_cut_while_it_is_mapped_costs_itself_only() {
    let folder = Folder::new("cut");
    let (mut reader, mut deaths) = (reader(), 0);
    for round in 0..20 {
        let program = folder.compile(&format!("program{round}"), INLINING, &["-g", "-O1"]);
        let outer = address_of(&program, "outer");
        let file = File::options().read(true).write(true).open(&program).unwrap();
        let object = id(&file);
        let request = SymbolizeRequest { object, file: file.as_fd(), debug: None, alt: None, offsets: &[FileAddress(outer)] };
        assert!(reader.symbolize(request).unwrap()[0].is_ok());
        let before = reader.pid();
        file.set_len(0).unwrap();
        let other = SymbolizeRequest { offsets: &[FileAddress(outer + 1), FileAddress(0x1100)], ..request };
        // What was read before may still answer; what happens beyond must be an error, and not of another file.
        if let Err(error) = reader.symbolize(other) {
            assert!(matches!(error, ReaderError::Died | ReaderError::Refused(_)), "{error}");
        }
        deaths += usize::from(reader.pid() != before);
        assert!(ask(&mut reader, Path::new("/proc/self/exe"), &[1]).is_ok(), "round {round}");
    }
    assert!(deaths > 0, "nothing has read what was cut");
}

#[test]
fn a_compressed_section_that_claims_to_be_endless_leaves_the_symbols() {
    let folder = Folder::new("bomb");
    let program = folder.compile("program", INLINING, &["-g", "-O1", "-gz=zlib"]);
    let outer = address_of(&program, "outer");
    let headers = run(Command::new("readelf").arg("-SW").arg(&program));
    let section = headers.lines().find(|line| line.contains(" .debug_info ")).unwrap();
    let fields: Vec<&str> = section.split_whitespace().collect();
    let at = fields.iter().position(|field| *field == ".debug_info").unwrap();
    let offset = usize::from_str_radix(fields[at + 3], 16).unwrap();
    let mut bytes = std::fs::read(&program).unwrap();
    assert_eq!(bytes[offset], 1, "the section is not compressed");
    bytes[offset + 8..offset + 16].copy_from_slice(&(1_u64 << 40).to_le_bytes());
    std::fs::write(&program, bytes).unwrap();
    assert_eq!(name_at(&program, outer), "outer");
}

#[test]
fn an_enormous_file_is_refused_at_once() {
    let folder = Folder::new("enormous");
    let path = folder.0.join("file");
    let file = File::options().create(true).truncate(true).read(true).write(true).open(&path).unwrap();
    file.set_len(200 << 30).unwrap();
    let started = Instant::now();
    assert!(matches!(reader().identify(id(&file), file.as_fd()), Err(ReaderError::Refused(_))));
    assert!(started.elapsed() < Duration::from_secs(2));
}

/// A generator of numbers that are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }
}

/// Changes a few bytes, most of them where they do harm: in headers, and in small numbers.
fn mutate(bytes: &mut Vec<u8>, numbers: &mut Numbers) {
    for _ in 0..1 + numbers.next(12) {
        let from_end = bytes.len() - bytes.len().min(64 * 40);
        let at = match numbers.next(4) {
            0 => numbers.next(0x400),
            1 => from_end + numbers.next(bytes.len() - from_end),
            _ => numbers.next(bytes.len()),
        };
        let interesting = [0, 1, 0x7f, 0x80, 0xff, numbers.next(256) as u8];
        let length = [1, 1, 4, 8][numbers.next(4)];
        let value = interesting[numbers.next(interesting.len())];
        let end = (at + length).min(bytes.len());
        bytes[at..end].fill(value);
    }
    if numbers.next(10) == 0 {
        let length = 1 + numbers.next(bytes.len());
        bytes.truncate(length);
    }
}

/// How many mutants: `PROFILER_TEST_MUTANTS`, or enough for every run of the tests.
fn mutants() -> usize {
    std::env::var("PROFILER_TEST_MUTANTS").ok().and_then(|count| count.parse().ok()).unwrap_or(400)
}

#[test]
fn mutants_of_good_files_cost_at_most_themselves() {
    let folder = Folder::new("mutants");
    let program = folder.compile("program", INLINING, &["-g", "-O1"]);
    std::fs::write(folder.0.join("main.go"), "package main\n\nfunc main() { println(1) }\n").unwrap();
    run(Command::new("go").current_dir(&folder.0).args(["build", "-o", "go", "main.go"]));
    let seeds = [std::fs::read(&program).unwrap(), std::fs::read(folder.0.join("go")).unwrap()];
    let outer = address_of(&program, "outer");
    let offsets: Vec<u64> = (outer..outer + 8).chain((0..40).map(|at| 0x1000 + at * 997)).collect();
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut reader = reader_with(Duration::from_secs(2));
    let path = folder.0.join("mutant");
    let (mut outcomes, mut deaths) = ([0; 4], 0);
    for round in 0..mutants() {
        // The Go program is large: one in ten.
        let mut bytes = seeds[usize::from(round % 10 == 9)].clone();
        mutate(&mut bytes, &mut numbers);
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, &bytes).unwrap();
        let before = reader.pid();
        let outcome = match ask(&mut reader, &path, &offsets) {
            Ok(answers) => {
                assert_eq!(answers.len(), offsets.len());
                0
            }
            Err(ReaderError::Refused(_)) => 1,
            Err(ReaderError::Died) => 2,
            Err(ReaderError::Deadline(_)) => 3,
            Err(other) => panic!("round {round}: {other}"),
        };
        outcomes[outcome] += 1;
        deaths += usize::from(before.is_some() && before != reader.pid());
        if round % 50 == 0 {
            assert_eq!(name_at(&program, outer), "outer");
        }
    }
    println!("answered, refused, died, too slow: {outcomes:?}; readers that died of it: {deaths}");
    assert!(outcomes[0] > 0 && outcomes[1] > 0);
    assert_eq!(ask(&mut reader, &program, &[outer]).unwrap()[0].as_ref().unwrap().last().unwrap().name.to_string(), "outer");
}
