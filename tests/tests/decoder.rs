//! The decoder that all other tests trust: it reads what Go's own writer writes, agrees with Go's own reader, and refuses what is broken.

use anyhow::{Context, Result, ensure};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use profiler_tests::pprof_tool::pprof;
use profiler_tests::profile::Profile;
use profiler_tests::run::Folder;
use profiler_tests::skip::{Need, ready};
use profiler_tests::subject::{Build, build};
use std::io::{Read, Write};
use std::process::Command;

/// A profile that Go made of itself.
fn made_by_go(folder: &Folder) -> Result<std::path::PathBuf> {
    let path = folder.join("go.prof");
    let status = Command::new(build("goprofile", Build::Go)?).arg(&path).status()?;
    ensure!(status.success(), "goprofile: {status}");
    Ok(path)
}

#[test]
fn it_reads_what_go_writes_as_go_reads_it() -> Result<()> {
    if !ready(&[Need::Program("go")]) {
        return Ok(());
    }
    let folder = Folder::create()?;
    let path = made_by_go(&folder)?;
    let profile = Profile::read(&path)?;
    assert_eq!(profile.sample_types, [("samples".to_owned(), "count".to_owned()), ("cpu".to_owned(), "nanoseconds".to_owned())]);
    assert_eq!((profile.period, profile.period_type.0.as_str()), (10_000_000, "cpu"));
    let spin = profile.cumulative()["main.spinHere"];
    ensure!(spin > 10 && spin as f64 > 0.9 * profile.total(0) as f64, "{:?}", profile.flat());
    ensure!(profile.labelled("phase", "one").total(0) >= spin, "{:?}", profile.label_values("phase"));
    let raw = pprof(["-raw", &path.to_string_lossy()])?.text;
    let sum = raw.lines().skip_while(|line| *line != "samples/count cpu/nanoseconds").skip(1).take_while(|line| *line != "Locations");
    let counts = sum.filter_map(|line| line.split_once(':')?.0.split_whitespace().next()?.parse::<i64>().ok());
    assert_eq!(counts.sum::<i64>(), profile.total(0), "{raw}");
    Ok(())
}

#[test]
fn it_refuses_what_is_broken() -> Result<()> {
    if !ready(&[Need::Program("go")]) {
        return Ok(());
    }
    let folder = Folder::create()?;
    let bytes = std::fs::read(made_by_go(&folder)?)?;
    let mut message = Vec::new();
    GzDecoder::new(&bytes[..]).read_to_end(&mut message)?;
    let packed = |message: &[u8]| -> Result<Vec<u8>> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(message)?;
        Ok(encoder.finish()?)
    };
    Profile::parse(&packed(&message)?).context("the whole message")?;
    ensure!(Profile::parse(&message).is_err(), "not compressed");
    ensure!(Profile::parse(&packed(&message[..message.len() - 1])?).is_err(), "cut short");
    // One more sample of one value where there are two columns: field 2, one byte long, value 1.
    let more = [&message[..], &[0x12, 2, 0x10, 1]].concat();
    ensure!(Profile::parse(&packed(&more)?).is_err(), "a sample with too few values");
    // One more location that refers to a function that is not there.
    let stranger = [&message[..], &[0x22, 6, 0x08, 1, 0x22, 2, 0x08, 0x7f]].concat();
    ensure!(Profile::parse(&packed(&stranger)?).is_err(), "an unknown function, under an id that is taken");
    Ok(())
}
