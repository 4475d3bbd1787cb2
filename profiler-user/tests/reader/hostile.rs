//! What bad files, and bad luck, do to a reader: nothing that outlives the one file.

use super::*;

#[test]
fn a_file_that_is_no_elf_is_bad_and_the_next_one_is_read() {
    let folder = Folder::new("garbage");
    let garbage = folder.0.join("garbage");
    std::fs::write(&garbage, b"\x7fELF\x02\x01\x01 and then nothing that makes sense").unwrap();
    let mut reader = reader();
    assert!(matches!(ask(&mut reader, &garbage, &[1]), Err(ReaderError::Refused(_))));
    assert!(matches!(ask(&mut reader, &garbage, &[1]), Err(ReaderError::RememberedBad)));
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
