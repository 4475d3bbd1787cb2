//! The Go program that these tests read: built in several ways, told what to do, and asked for its own profile.

use crate::rows::{self, Row};
use profiler::go::GoHeapError;
use profiler::go::heap::{GoHeapProfile, Request, read};
use profiler::go::waits::{self, GoWaits, Which};
use profiler::memory::MemoryReader;
use profiler::model::go_heap::{GoHeapPlaces, NoGoHeap};
use profiler::model::go_waits::GoWaitPlaces;
use profiler::model::mapping::ObjectId;
use profiler::model::process::Pid;
use profiler::reader::{Reader, ReaderOptions};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The ways to build it.
pub(crate) const BUILDS: &[(&str, &[&str])] = &[
    ("whole", &[]),
    ("stripped", &["-ldflags=-s -w"]),
    ("movable", &["-buildmode=pie"]),
    ("movable-stripped", &["-buildmode=pie", "-ldflags=-s -w"]),
    // Linked by the C compiler's linker, which lays the file out its own way.
    ("foreign", &["-ldflags=-linkmode=external"]),
    ("foreign-movable-stripped", &["-buildmode=pie", "-ldflags=-s -w -linkmode=external"]),
];

/// The program that builds it.
pub(crate) fn go() -> String {
    std::env::var("PROFILER_TEST_GO").unwrap_or_else(|_| "go".into())
}

/// The program that readers and helpers are started from.
pub(crate) fn program() -> PathBuf {
    env!("CARGO_BIN_EXE_profiler").into()
}

/// A built program, alone in its folder, which goes with it.
pub(crate) struct Program(pub PathBuf);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.0.parent().unwrap());
    }
}

pub(crate) fn build(name: &str, flags: &[&str]) -> Program {
    build_subject("goheap", name, flags)
}

/// Builds another of the subjects.
pub(crate) fn build_subject(subject: &str, name: &str, flags: &[&str]) -> Program {
    let source = format!("{}/../tests/subjects/{subject}.go", env!("CARGO_MANIFEST_DIR"));
    build_source(name, &std::fs::read_to_string(source).unwrap(), flags)
}

/// Builds a program of one file.
pub(crate) fn build_source(name: &str, source: &str, flags: &[&str]) -> Program {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let folder = std::env::temp_dir().join(format!("profiler-go-heap-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("main.go"), source).unwrap();
    std::fs::write(folder.join("go.mod"), "module example.com/subject\n\ngo 1.21\n").unwrap();
    let mut build = Command::new(go());
    build.current_dir(&folder).env("GOTOOLCHAIN", "local").args(["build", "-o", name]).args(flags).arg(".");
    let built = build.output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Program(folder.join(name))
}

/// The address of a symbol, read by another crate's walk over the table than the product's.
pub(crate) fn address_of(bytes: &[u8], name: &str) -> u64 {
    use object::{Object as _, ObjectSymbol as _};
    object::File::parse(bytes).unwrap().symbol_by_name(name).unwrap().address()
}

fn id(file: &File) -> ObjectId {
    let of = file.metadata().unwrap();
    ObjectId { device: of.dev(), inode: of.ino(), modified_ns: of.mtime() * 1_000_000_000 + of.mtime_nsec(), size: of.size() }
}

pub(crate) fn waits_by_reader(program: &Path) -> Result<GoWaitPlaces, NoGoHeap> {
    let file = File::open(program).unwrap();
    reader().go_waits(id(&file), file.as_fd()).unwrap()
}

fn reader() -> Reader {
    Reader::new(ReaderOptions { program: Some(program()), ..ReaderOptions::default() })
}

pub(crate) fn places_by_reader(program: &Path) -> Result<GoHeapPlaces, NoGoHeap> {
    let file = File::open(program).unwrap();
    reader().go_heap(id(&file), file.as_fd()).unwrap()
}

/// The program, running.
pub(crate) struct Subject {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    memory: MemoryReader,
    places: GoHeapPlaces,
    bias: u64,
    text: PathBuf,
    program: Program,
}

impl Subject {
    /// Starts it with a memory profile rate.
    pub(crate) fn start(built: Program, rate: &str) -> Self {
        let program_path = built.0.as_path();
        let mut child = Command::new(program_path).arg(rate).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let bias = bias(child.id(), program_path);
        let text = program_path.with_extension(format!("{}.text", child.id()));
        let memory = MemoryReader::new(Some(program()));
        let places = places_by_reader(program_path).unwrap();
        let mut subject = Self { child, input, output, memory, places, bias, text, program: built };
        assert_eq!(subject.line(), "ready");
        subject
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Has it do something, and waits until it is done.
    pub(crate) fn tell(&mut self, what: &str) {
        writeln!(self.input, "{what}").unwrap();
        assert_eq!(self.line(), "done", "{what}");
    }

    /// Its own profile.
    pub(crate) fn text(&mut self) -> String {
        self.tell(&format!("text {}", self.text.display()));
        std::fs::read_to_string(&self.text).unwrap()
    }

    pub(crate) fn read(&mut self) -> Result<GoHeapProfile, GoHeapError> {
        let deadline = Instant::now() + Duration::from_secs(20);
        let (pid, bias, places) = (Pid(self.child.id()), self.bias, self.places);
        read(&mut self.memory, &Request { pid, bias, places, deadline, bytes_max: 64 << 20 })
    }

    /// Our profile of it.
    pub(crate) fn ours(&mut self) -> Result<Vec<Row>, GoHeapError> {
        self.read().map(rows::ours)
    }

    /// What it has recorded of waits, as we read it.
    pub(crate) fn waits(&mut self) -> GoWaits {
        let places = waits_by_reader(&self.program.0).unwrap();
        let (pid, bias, deadline) = (Pid(self.child.id()), self.bias, Instant::now() + Duration::from_secs(20));
        let which = vec![Which::Block, Which::Mutex];
        waits::read(&mut self.memory, &waits::Request { pid, bias, places, which, deadline, bytes_max: 64 << 20 }).unwrap()
    }

    /// The same of its own.
    pub(crate) fn waits_texts(&mut self) -> [String; 2] {
        let names = ["block", "mutex"].map(|kind| self.text.with_extension(kind));
        self.tell(&format!("text {} {}", names[0].display(), names[1].display()));
        names.map(|name| std::fs::read_to_string(name).unwrap())
    }

    /// Ends it.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How far the program was moved: by the mapping of its code.
fn bias(pid: u32, program: &Path) -> u64 {
    let file = File::open(program).unwrap();
    let code = *reader().identify(id(&file), file.as_fd()).unwrap().segments.iter().find(|segment| segment.executable).unwrap();
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let line = maps.lines().find(|line| line.contains(" r-xp ") && line.ends_with(program.to_str().unwrap())).unwrap();
    let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
    let (start, offset) = (number(line.split('-').next().unwrap()), number(line.split(' ').nth(2).unwrap()));
    let address = code.virtual_address - code.file_offset + offset;
    start.wrapping_sub(address)
}
