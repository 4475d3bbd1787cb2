//! `-e mmap`: memory is mapped where the program asked for it, each mapping counted with its length.

use anyhow::{Result, ensure};
use profiler_tests::profile::Profile;
use profiler_tests::run::Profiler;
use profiler_tests::skip::can_record;
use profiler_tests::subject::{Build, Subject, build};
use std::io::Write as _;
use std::process::Command;

#[test]
fn each_mapping_is_counted_where_it_was_asked_for() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let (mut subject, mut stdin) = Subject::start_told(Command::new(build("mmaps", Build::CBare)?))?;
    let mut recording = Profiler::record()?.pid(subject.pid()).args(["-e", "mmap,cpu"]).start()?;
    recording.wait_until_recording()?;
    for _ in 0..3 {
        stdin.write_all(b"go\n")?;
        subject.wait_for_line("done")?;
    }
    let run = recording.interrupt()?.success()?;
    let profile = Profile::read(&run.folder.join("mmap.prof"))?;
    let types: Vec<_> = profile.sample_types.iter().map(|(name, unit)| (name.as_str(), unit.as_str())).collect();
    ensure!(types == [("mappings", "count"), ("space", "bytes")], "{types:?}");
    for (function, mappings, bytes) in
        [("small", 100, 100 * 65536), ("large", 10, 10 << 20), ("by_malloc", 7, 7 * ((40 << 20) + 4096)), ("refused", 0, 0)]
    {
        let mine = profile.only(|sample| profile.names(sample).contains(&function));
        ensure!((mine.total(0), mine.total(1)) == (3 * mappings, 3 * bytes), "{function}: {} {}", mine.total(0), mine.total(1));
    }
    ensure!(profile.rooted()? >= 0.99, "{:?}", profile.endings()?);
    ensure!(profile.balance()?.difference == 0 && profile.losses()?.is_empty(), "{:#?}", profile.comments);
    Ok(())
}
