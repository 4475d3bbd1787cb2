//! What a reader promises, with real reader processes: it names, it has no rights, it survives nothing it should not, and a bad file costs itself only.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod allocator;
mod go_table;
mod hostile;
mod memory;
mod naming;

use profiler::model::address::FileAddress;
use profiler::model::mapping::ObjectId;
use profiler::model::profile::Unresolved;
use profiler::reader::{Reader, ReaderError, ReaderOptions, SymbolLine, SymbolizeRequest};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The program that readers are started from.
fn program() -> PathBuf {
    std::env::var_os("PROFILER_TEST_PROGRAM").map_or_else(|| env!("CARGO_BIN_EXE_profiler").into(), PathBuf::from)
}

fn reader() -> Reader {
    reader_with(Duration::from_secs(20))
}

fn reader_with(deadline: Duration) -> Reader {
    Reader::new(ReaderOptions { deadline, program: Some(program()), ..ReaderOptions::default() })
}

fn id(file: &File) -> ObjectId {
    let of = file.metadata().unwrap();
    ObjectId { device: of.dev(), inode: of.ino(), modified_ns: of.mtime() * 1_000_000_000 + of.mtime_nsec(), size: of.size() }
}

/// A folder of this test's own, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("profiler-reader-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Compiles a C program; returns its path.
    fn compile(&self, name: &str, source: &str, flags: &[&str]) -> PathBuf {
        let (code, program) = (self.0.join(format!("{name}.c")), self.0.join(name));
        std::fs::write(&code, source).unwrap();
        run(Command::new("gcc").args(["-o", program.to_str().unwrap(), code.to_str().unwrap()]).args(flags));
        program
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The file's own address of a symbol, by `nm`; in the programs here it is also the offset in the file, but for the base of a fixed-address program.
fn address_of(program: &Path, symbol: &str) -> u64 {
    let table = run(Command::new("nm").arg(program));
    let line = table.lines().find(|line| line.split(' ').next_back() == Some(symbol)).unwrap();
    u64::from_str_radix(line.split(' ').next().unwrap(), 16).unwrap()
}

fn ask(reader: &mut Reader, path: &Path, offsets: &[u64]) -> Result<Vec<Result<Vec<SymbolLine>, Unresolved>>, ReaderError> {
    let file = File::open(path).unwrap();
    let offsets: Vec<FileAddress> = offsets.iter().copied().map(FileAddress).collect();
    reader.symbolize(SymbolizeRequest { object: id(&file), file: file.as_fd(), debug: None, alt: None, offsets: &offsets })
}

/// `inner` is inlined into `outer`, on known lines.
const INLINING: &str = "#include <stdlib.h>
volatile int sink;
static inline __attribute__((always_inline)) void inner(int n) {
    sink += n;
}
__attribute__((noinline)) void outer(int n) {
    inner(n);
}
int main(int argc, char **argv) {
    outer(argc);
    return 0;
}
";
