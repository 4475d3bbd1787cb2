//! `-e heap` of programs with a known pattern in C, C++, Rust and Python, linked with glibc, musl or an allocator of their own: each gives the known numbers
//! as a process and as a control group that are looked at late, and as a command.

use anyhow::{Context as _, Result, ensure};
use profiler_tests::cgroup::Group;
use profiler_tests::profile::{Profile, Sample};
use profiler_tests::run::{Outcome, Profiler};
use profiler_tests::skip::{Need, can_record, ready, skip};
use profiler_tests::subject::{Build, Subject, build, build_crate, source};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command};

/// Allocators that are libraries, as Debian names their files.
const ALLOCATORS: [&str; 3] = ["libjemalloc.so.2", "libtcmalloc_minimal.so.4", "libmimalloc.so.2.0"];
/// Rounds that are recorded.
const ROUNDS: i64 = 2;

/// What rows have in common.
#[derive(Clone, Copy, Debug)]
enum Rows {
    /// A function on their stack.
    Of(&'static str),
    /// A size class.
    Sized(i64),
}

/// Blocks and bytes that a round allocates, and those of them that stay.
type Pattern = &'static [(Rows, [i64; 4])];

const OF_C: Pattern = &[
    (Rows::Of("kept"), [1000, 100_000, 1000, 100_000]),
    (Rows::Of("dropped"), [2000, 2_000_000, 0, 0]),
    (Rows::Of("zeroed"), [100, 200_000, 100, 200_000]),
    (Rows::Of("grown"), [600, 1_503_000, 300, 1_500_000]),
    (Rows::Of("aligned"), [50, 204_800, 50, 204_800]),
    (Rows::Of("refused"), [10, 80, 0, 0]),
];
/// A vector doubles: 1, 2, 4 ... 1,024 longs.
const OF_CPP: Pattern = &[
    (Rows::Of("kept"), [1000, 100_000, 1000, 100_000]),
    (Rows::Of("aligned"), [500, 32_000, 500, 32_000]),
    (Rows::Of("dropped"), [11, 8 * 2047, 0, 0]),
    (Rows::Of("strings"), [400, 200 * (32 + 201), 400, 200 * (32 + 201)]),
];
/// Rust's vector begins with 4.
const OF_RUST: Pattern = &[
    (Rows::Of("kept"), [1000, 100_000, 1000, 100_000]),
    (Rows::Of("dropped"), [9, 8 * 2044, 0, 0]),
    (Rows::Of("zeroed"), [100, 200_000, 100, 200_000]),
];
/// Before its bytes stand 32 of its head, behind them one that is 0. Nothing else that the interpreter makes, at its start either, is in those classes.
const OF_PYTHON: Pattern =
    &[(Rows::Sized(204_800), [300, 300 * 200_033, 300, 300 * 200_033]), (Rows::Sized(401_408), [700, 700 * 400_033, 0, 0])];
const PYTHON: &str = "import os, sys
kept = []
print('ready', flush=True)
for line in sys.stdin:
    kept.append([bytes(200000) for i in range(300)])
    for i in range(700): bytes(400000)
    print('done', flush=True)
os._exit(0)";

/// A program that makes a round for each line that it reads.
struct Program {
    words: Vec<String>,
    pattern: Pattern,
}

impl Program {
    fn new(path: &Path, pattern: Pattern) -> Self {
        Self { words: vec![path.display().to_string()], pattern }
    }

    /// The same with a library before all others.
    fn preloaded(&self, library: &Path) -> Self {
        let before = ["env".to_owned(), format!("LD_PRELOAD={}", library.display())];
        Self { words: before.into_iter().chain(self.words.iter().cloned()).collect(), pattern: self.pattern }
    }

    /// The known numbers, whoever asks for them.
    fn gives_them(&self) -> Result<()> {
        self.as_a_process().with_context(|| format!("{:?} as a process", self.words))?;
        self.as_a_group().with_context(|| format!("{:?} as a control group", self.words))?;
        self.as_a_command().with_context(|| format!("{:?} as a command", self.words))
    }

    fn as_a_process(&self) -> Result<()> {
        let mut told = Told::start(self)?;
        let target = ["-p".to_owned(), told.subject.pid().to_string()];
        self.is_exact(&self.late(&target, &mut [&mut told])?)
    }

    fn as_a_group(&self) -> Result<()> {
        let (mut inside, mut outside) = (Told::start(self)?, Told::start(self)?);
        let group = Group::v2(&format!("profiler-languages-{}", inside.subject.pid()))?;
        group.add(inside.subject.pid())?;
        let target = ["--cgroup".to_owned(), group.path().display().to_string()];
        self.is_exact(&self.late(&target, &mut [&mut inside, &mut outside])?)
    }

    fn as_a_command(&self) -> Result<()> {
        let running = Profiler::record()?.args(["-e", "heap", "--sample-bytes", "1", "--"]).args(&self.words);
        // It ends with its input.
        let input = running.folder().join("input");
        fs::write(&input, "go\n".repeat(usize::try_from(ROUNDS)?))?;
        let input = File::open(input)?;
        let running = running.with(|command| {
            command.stdin(input);
        });
        self.is_exact(&running.run()?.success()?)
    }

    /// Records rounds of programs that have made one before.
    fn late(&self, target: &[String], programs: &mut [&mut Told]) -> Result<Outcome> {
        for program in programs.iter_mut() {
            program.round()?;
        }
        let mut recording = Profiler::record()?.args(["-e", "heap", "--sample-bytes", "1"]).args(target).start()?;
        recording.wait_until_recording()?;
        for _ in 0..ROUNDS {
            for program in programs.iter_mut() {
                program.round()?;
            }
        }
        recording.interrupt()?.success()
    }

    fn is_exact(&self, run: &Outcome) -> Result<()> {
        let profile = Profile::read(&run.folder.join("heap.prof"))?;
        for (rows, figures) in self.pattern {
            let mine = profile.only(|sample| rows.have(&profile, sample));
            let found: Vec<i64> = (0..4).map(|column| mine.total(column)).collect();
            let expected = figures.map(|figure| figure * ROUNDS);
            ensure!(found == expected, "{rows:?}: {found:?} instead of {expected:?}: {:#?}", profile.comments);
        }
        ensure!(profile.balance()?.difference == 0 && profile.losses()?.is_empty(), "{:#?}", profile.comments);
        Ok(())
    }
}

impl Rows {
    fn have(self, profile: &Profile, sample: &Sample) -> bool {
        // In C `kept`, in C++ `kept()`, in Rust `blocks::kept`.
        let is = |name: &str, function: &str| name.split('(').next().and_then(|name| name.rsplit("::").next()) == Some(function);
        match self {
            Self::Of(function) => profile.names(sample).iter().any(|name| is(name, function)),
            Self::Sized(bytes) => sample.label("bytes").is_some_and(|label| label.number == bytes),
        }
    }
}

/// A program that runs, and waits for its next round.
struct Told {
    subject: Subject,
    stdin: ChildStdin,
}

impl Told {
    fn start(program: &Program) -> Result<Self> {
        let mut command = Command::new(&program.words[0]);
        command.args(&program.words[1..]);
        let (subject, stdin) = Subject::start_told(command)?;
        Ok(Self { subject, stdin })
    }

    fn round(&mut self) -> Result<()> {
        self.stdin.write_all(b"go\n")?;
        self.subject.wait_for_line("done").map(drop)
    }
}

/// The library of an allocator, if it is installed.
fn library(name: &str) -> Option<PathBuf> {
    let path = Path::new("/usr/lib/x86_64-linux-gnu").join(name);
    if !path.exists() {
        skip(&format!("{name} is not there"));
        return None;
    }
    Some(path)
}

/// Compiles a subject otherwise than `build` does.
fn compiled(name: &str, words: &[&str], source: &Path, libraries: &[&Path]) -> Result<PathBuf> {
    let folder = profiler_tests::manifest::root().join("target/profiler-tests/languages");
    fs::create_dir_all(&folder)?;
    let out = folder.join(name);
    let mut compiler = Command::new(words[0]);
    compiler.args(&words[1..]).arg("-o").arg(&out).arg(source).arg("-Wl,--no-as-needed").args(libraries);
    ensure!(compiler.status()?.success(), "{compiler:?}");
    Ok(out)
}

#[test]
fn c_gives_them() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let own = Program::new(&build("blocks", Build::CBare)?, OF_C);
    own.gives_them()?;
    ALLOCATORS.into_iter().filter_map(library).try_for_each(|library| own.preloaded(&library).gives_them())
}

#[test]
fn c_that_is_linked_with_an_allocator_gives_them() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    ALLOCATORS.into_iter().filter_map(library).try_for_each(|library| {
        let name = format!("c-{}", library.file_name().context("a name")?.display());
        let words = ["gcc", "-O2", "-g", "-fno-optimize-sibling-calls"];
        Program::new(&compiled(&name, &words, &source("blocks", Build::C), &[&library])?, OF_C).gives_them()
    })
}

#[test]
fn a_static_program_of_musl_gives_them() -> Result<()> {
    if !can_record(&[]) || !ready(&[Need::Program("musl-gcc")]) {
        return Ok(());
    }
    let words = ["musl-gcc", "-static", "-O2", "-g", "-fno-optimize-sibling-calls"];
    Program::new(&compiled("c-static-musl", &words, &source("blocks", Build::C), &[])?, OF_C).gives_them()
}

#[test]
fn cpp_gives_them() -> Result<()> {
    if !can_record(&[Build::CxxBare]) {
        return Ok(());
    }
    let own = Program::new(&build("blocks", Build::CxxBare)?, OF_CPP);
    own.gives_them()?;
    ALLOCATORS.into_iter().filter_map(library).try_for_each(|library| own.preloaded(&library).gives_them())
}

#[test]
fn cpp_that_is_linked_with_an_allocator_gives_them() -> Result<()> {
    if !can_record(&[Build::CxxBare]) {
        return Ok(());
    }
    ALLOCATORS.into_iter().filter_map(library).try_for_each(|library| {
        let name = format!("cpp-{}", library.file_name().context("a name")?.display());
        let words = ["g++", "-std=c++17", "-O2", "-g", "-fno-optimize-sibling-calls"];
        Program::new(&compiled(&name, &words, &source("blocks", Build::CxxBare), &[&library])?, OF_CPP).gives_them()
    })
}

#[test]
fn rust_gives_them() -> Result<()> {
    if !can_record(&[Build::Rust]) {
        return Ok(());
    }
    Program::new(&build("blocks", Build::Rust)?, OF_RUST).gives_them()
}

#[test]
fn rust_with_a_jemalloc_whose_functions_have_a_prefix_gives_them() -> Result<()> {
    if !can_record(&[]) || !ready(&[Need::Program("cargo"), Need::Program("make")]) {
        return Ok(());
    }
    let program = build_crate("prefixed")?;
    let symbols = Command::new("nm").arg(&program).output()?.stdout;
    let symbols = String::from_utf8_lossy(&symbols);
    ensure!(symbols.contains(" T _rjem_malloc\n") && !symbols.contains(" T malloc\n"), "it has a prefix, and nothing else is there");
    Program::new(&program, OF_RUST).gives_them()
}

#[test]
fn python_gives_them() -> Result<()> {
    if !can_record(&[]) || !ready(&[Need::Program("python3")]) {
        return Ok(());
    }
    let words = ["python3", "-c", PYTHON].map(str::to_owned).to_vec();
    Program { words, pattern: OF_PYTHON }.gives_them()
}
