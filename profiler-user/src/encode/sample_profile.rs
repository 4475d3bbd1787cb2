//! A small profile with one of everything, for the tests of the formats.

use crate::model::entry_points::EntryPoints;
use crate::model::kind::Kind;
use crate::model::label::Label;
use crate::model::loss::{Balance, Endings, Loss, Losses};
use crate::model::process::Pid;
use crate::model::profile::{Function, Line, Location, Profile, ProfileMapping, ProfileProcess, Sample, Unresolved};
use profiler_common::ended::Ended;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

fn function(name: &str, system_name: &str, filename: &str, start_line: u32) -> Function {
    Function { name: name.into(), system_name: system_name.into(), filename: filename.into(), start_line }
}

fn mapping(start: u64, limit: u64, filename: &str, build_id: &str) -> ProfileMapping {
    ProfileMapping { start, limit, file_offset: 0x1000, filename: filename.into(), build_id: build_id.into() }
}

fn at(mapping: usize, address: u64, lines: Result<&[(usize, u32)], Unresolved>) -> Location {
    let lines =
        lines.map(|lines| lines.iter().map(|(function, line)| Line { function: *function, line: *line, column: 0, go: None }).collect());
    Location { mapping: Some(mapping), address, lines }
}

fn sample(locations: &[usize], events: i64, process: usize) -> Sample {
    let labels = vec![Label::text("comm", ["app", "other;\n"][process]), Label::number("pid", [0, 77][process], "pid")];
    Sample {
        locations: locations.to_vec(),
        values: vec![events, events * 10_000_000],
        raw: None,
        hidden: 0,
        process: Some(process),
        labels,
    }
}

/// Two processes, the kernel, inlining, a binary of which a part has no names, a stack without frames, and losses.
pub(crate) fn sample_profile() -> Profile {
    let (mut losses, mut endings) = (Losses::default(), Endings::default());
    losses.add(Loss::RingFull, 3);
    losses.add(Loss::ProcessEvents, 7);
    endings.add(Ended::Root, 20);
    endings.add(Ended::DepthLimit, 8);
    Profile {
        kind: Kind::Cpu,
        sample_types: Kind::Cpu.sample_types().to_vec(),
        period_type: Kind::Cpu.period_type(),
        period: 10_000_000,
        start: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        duration: Duration::from_secs(2),
        samples: vec![sample(&[0, 1], 12, 0), sample(&[3, 1], 8, 0), sample(&[2, 1], 5, 1), sample(&[], 2, 1), sample(&[1, 1, 1], 1, 0)],
        mappings: vec![
            mapping(0xffff_ffff_8100_0000, 0xffff_ffff_8200_0000, "[kernel.kallsyms]_stext", ""),
            mapping(0x40_0000, 0x50_0000, "/opt/my app/app", "00ff11"),
            mapping(0x50_0000, 0x60_0000, "/usr/lib/libc.so.6", ""),
        ],
        locations: vec![
            at(1, 0x40_1000, Ok(&[(0, 7), (1, 42)])),
            at(1, 0x40_2000, Ok(&[(2, 3)])),
            at(1, 0x40_3000, Err(Unresolved::NoSymbol)),
            at(0, 0xffff_ffff_8110_0000, Ok(&[(3, 0)])),
        ],
        functions: vec![
            function("inner<T>", "_ZN5inner", "src/a.rs", 5),
            function("outer", "outer", "src/a.rs", 40),
            function("main", "main", "src/main.rs", 1),
            function("schedule", "schedule", "", 0),
        ],
        processes: vec![
            ProfileProcess { pid: Pid(0), comm: Arc::from("app"), main: Some(1) },
            ProfileProcess { pid: Pid(77), comm: Arc::from("other;\n"), main: None },
        ],
        entry_points: EntryPoints::default(),
        comments: vec!["profiler test".to_owned()],
        losses,
        endings,
        balance: Balance { ticks: 40, idle: 5, filtered: 4, samples: 28, is_narrowed: false },
        is_part: false,
    }
}
