//! P1: what a walk without frame pointers costs in the kernel, at several depths, against `bpf_get_stackid`, which walks frame pointers. P6: how dense the
//! tables are, and how fast they are made.

use super::Row;
use super::program_cost::our_cost;
use super::small_program::{self, Small};
use anyhow::{Context as _, Result, anyhow};
use profiler::parse::eh_frame::unwind_table;
use profiler_tests::run::online_cpus;
use profiler_tests::subject::{Build, Subject, build};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Depths that are measured, and what of the kernel's own walk ours may cost at them.
const DEPTHS: [(u32, Option<f64>); 5] = [(1, None), (10, Some(0.3)), (50, Some(0.3)), (100, Some(0.3)), (180, None)];
/// How long each is measured, seconds.
const SECONDS: u64 = 5;
/// Bytes a row, everything included, and rows a second.
const ROW_BYTES_MAX: f64 = 4.3;
const ROWS_PER_SECOND_MIN: f64 = 3e6;

/// Both.
pub(super) fn run() -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for frequency in [99, 997] {
        for (depth, goal) in DEPTHS {
            rows.push(walk(frequency, depth, goal)?);
        }
    }
    rows.extend(files().iter().map(|file| table(file)).collect::<Result<Vec<_>>>()?.into_iter().flatten());
    Ok(rows)
}

/// One depth, every CPU busy: the kernel's walk on a program with frame pointers, ours on the same one without.
fn walk(frequency: u32, depth: u32, goal: Option<f64>) -> Result<Row> {
    let busy = |program: &Path| (0..online_cpus()).map(|_| Subject::start(program, [depth.to_string()])).collect::<Result<Vec<_>>>();
    let kernels = {
        let _load = busy(&build("deep", Build::C)?)?;
        small_program::cost(Small::StackId, frequency, Duration::from_secs(SECONDS))?
    };
    let ours = {
        let _load = busy(&build("deep", Build::CBare)?)?;
        our_cost(frequency)?
    };
    let what = format!("{frequency} Hz, depth {depth}: all of ours without frame pointers / bpf_get_stackid with them");
    let figure = format!("{:.2} ({ours:.0} / {kernels:.0} ns)", ours / kernels);
    Ok(match goal {
        Some(most) => Row::goal(what, figure, format!("<= {most}"), ours <= most * kernels),
        None => Row::beside(what, figure),
    })
}

/// One file's table.
fn table(file: &Path) -> Result<Vec<Row>> {
    let bytes = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    let began = Instant::now();
    let table = unwind_table(&bytes).map_err(|error| anyhow!("{}: {error}", file.display()))?;
    let per_second = table.rows as f64 / began.elapsed().as_secs_f64();
    let row_bytes = table.parts.iter().map(|part| part.words.len() * 4).sum::<usize>() as f64 / table.rows as f64;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    Ok(vec![
        Row::goal(
            format!("{name}: bytes a row, of {} rows", table.rows),
            format!("{row_bytes:.2}"),
            format!("<= {ROW_BYTES_MAX}"),
            row_bytes <= ROW_BYTES_MAX,
        ),
        Row::goal(
            format!("{name}: rows a second"),
            format!("{:.1} M", per_second / 1e6),
            format!(">= {:.0} M", ROWS_PER_SECOND_MIN / 1e6),
            per_second >= ROWS_PER_SECOND_MIN,
        ),
    ])
}

/// Those of the usual large files that are here.
fn files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = ["libc.so.6", "libstdc++.so.6", "libcrypto.so.3", "libpython3.11.so.1.0"]
        .map(|name| Path::new("/usr/lib/x86_64-linux-gnu").join(name))
        .into();
    files.extend(["/usr/lib/postgresql/15/bin/postgres", "/usr/bin/python3"].map(PathBuf::from));
    let path = std::env::var_os("PATH").unwrap_or_default();
    files.extend(std::env::split_paths(&path).map(|folder| folder.join("node")).find(|node| node.is_file()));
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output();
    if let Ok(output) = sysroot {
        let folder = Path::new(String::from_utf8_lossy(&output.stdout).trim()).join("lib");
        let drivers = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        files.extend(drivers.filter(|path| path.to_string_lossy().contains("librustc_driver")));
    }
    // What stands in PATH may be a script that starts the program.
    files.retain(|file| std::fs::read(file).is_ok_and(|bytes| bytes.starts_with(b"\x7fELF")));
    files
}
