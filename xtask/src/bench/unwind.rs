//! P1: what a walk without frame pointers costs in the kernel, at several depths, against `bpf_get_stackid`, which walks frame pointers and does nothing else,
//! against the line of bpftrace that counts stacks with it, and against lightswitch, which walks by tables as we do. P6: how dense the tables are, and how fast they are made.

use super::cold_walk::{self, QUIET, Width, load_share};
use super::lightswitch::{self, HOW_TO_GET};
use super::median;
use super::program_cost::our_run;
use super::small_program::{self, Small};
use super::{Row, bpftrace};
use anyhow::{Context as _, Result, anyhow};
use profiler::parse::eh_frame::unwind_table;
use profiler_tests::run::online_cpus;
use profiler_tests::skip::find;
use profiler_tests::subject::{Build, Subject, build};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// A depth, and what ours may cost there of the kernel's own walk and of lightswitch's.
struct Depth {
    frames: u32,
    of_kernels: Option<f64>,
    of_lightswitch: Option<f64>,
}

const DEPTHS: [Depth; 5] = [
    Depth { frames: 1, of_kernels: None, of_lightswitch: None },
    Depth { frames: 10, of_kernels: Some(0.3), of_lightswitch: Some(0.17) },
    Depth { frames: 50, of_kernels: Some(0.3), of_lightswitch: Some(0.12) },
    Depth { frames: 100, of_kernels: Some(0.3), of_lightswitch: Some(0.08) },
    Depth { frames: 180, of_kernels: None, of_lightswitch: None },
];
/// Rounds in which nothing else ran, one of each in turn; others are repeated, up to four times as many. The least of each counts: whatever else runs beside the load makes any of them dearer.
const ROUNDS: usize = 3;
/// How long each is measured in a round, seconds.
const SECONDS: u32 = 3;
/// Bytes a row, everything included, and rows a second.
const ROW_BYTES_MAX: f64 = 4.3;
const ROWS_PER_SECOND_MIN: f64 = 3e6;

/// Both.
pub(super) fn run() -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    if lightswitch::program().is_none() {
        rows.push(Row::beside("the peer lightswitch", HOW_TO_GET));
    }
    if find("bpftrace").is_none() {
        rows.push(Row::missing("bpftrace", "apt-get install bpftrace"));
    }
    for frequency in [99, 997] {
        for depth in &DEPTHS {
            rows.extend(walk(frequency, depth)?);
        }
    }
    rows.extend(cold_walk::run()?);
    rows.extend(files().iter().map(|file| table(file)).collect::<Result<Vec<_>>>()?.into_iter().flatten());
    Ok(rows)
}

/// One depth, every CPU busy: the kernel's walk on a program with frame pointers, ours and lightswitch's on the same one without.
fn walk(frequency: u32, depth: &Depth) -> Result<Vec<Row>> {
    let (time, peer) = (Duration::from_secs(SECONDS.into()), lightswitch::program());
    let (framed, bare) = (build("deep", Build::C)?, build("deep", Build::CBare)?);
    let (mut kernels, mut counted, mut ours, mut theirs, mut last) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), None);
    let (mut their_frames, mut their_rooted) = (Vec::new(), Vec::new());
    let mut quiet = 0;
    for _ in 0..4 * ROUNDS {
        if quiet == ROUNDS {
            break;
        }
        let load = busy(&framed, depth.frames)?;
        kernels.push(small_program::cost(Small::StackId, frequency, time)?);
        if find("bpftrace").is_some() {
            counted.push(bpftrace::cost(frequency, time)?);
        }
        drop(load);
        let _load = busy(&bare, depth.frames)?;
        let run = our_run(frequency, SECONDS)?;
        quiet += usize::from(load_share(&run.profile) >= QUIET);
        ours.push(run.ns);
        last = Some(run.profile);
        if let Some(peer) = &peer {
            let seen = lightswitch::cost(peer, frequency, time)?;
            theirs.push(seen.ns);
            their_frames.push(seen.frames);
            their_rooted.push(seen.rooted);
        }
    }
    let at = format!("{frequency} Hz, depth {}", depth.frames);
    let ours = least(&ours);
    let what = format!("{at}: all of ours without frame pointers / bpf_get_stackid with them");
    let mut rows = vec![ratio(what, ours, least(&kernels), depth.of_kernels)];
    if !counted.is_empty() {
        let what = format!("{at}: ours / bpftrace's count by stack with frame pointers");
        rows.push(ratio(what, ours, least(&counted), depth.of_kernels));
    }
    if !theirs.is_empty() {
        rows.push(ratio(format!("{at}: ours / lightswitch"), ours, least(&theirs), depth.of_lightswitch));
        // One that does not walk is fast: what its samples hold says whether it does.
        let walked = format!("{:.0} frames, {:.1} % to the root", median(&mut their_frames), 100.0 * median(&mut their_rooted));
        rows.push(Row::beside(format!("{at}: lightswitch's samples"), walked));
    }
    if quiet == 0 {
        rows.push(Row::beside(format!("{at}: DISTURBED"), "something else ran in every round, and its stacks were walked as well"));
    }
    if let Some(profile) = last {
        let (width, rooted) = (Width::of(&profile), profile.rooted()?);
        let about = format!("{}, {}, {:.2} %", width.stacks, width.addresses, 100.0 * rooted);
        rows.push(Row::beside(format!("{at}: distinct stacks, distinct addresses, our stacks that reached the root"), about));
    }
    Ok(rows)
}

fn least(figures: &[f64]) -> f64 {
    figures.iter().copied().fold(f64::INFINITY, f64::min)
}

/// The program on every CPU.
fn busy(program: &Path, depth: u32) -> Result<Vec<Subject>> {
    (0..online_cpus()).map(|_| Subject::start(program, [depth.to_string()])).collect()
}

/// What ours costs of another's.
fn ratio(what: String, ours: f64, other: f64, goal: Option<f64>) -> Row {
    let figure = format!("{:.3} ({ours:.0} / {other:.0} ns)", ours / other);
    match goal {
        Some(most) => Row::goal(what, figure, format!("<= {most}"), ours <= most * other),
        None => Row::beside(what, figure),
    }
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
