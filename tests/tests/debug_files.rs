//! Debug files that lie apart from a stripped program are found below `--debug-dir`, by build id and by debug link, and taken only if they are this program's.

use anyhow::{Context, Result, ensure};
use profiler_tests::profile::Profile;
use profiler_tests::run::{Folder, Profiler};
use profiler_tests::skip::{Need, can_record, ready};
use profiler_tests::subject::{Build, Subject, build, source};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs a program of binutils; what it prints.
fn binutils(program: &str, words: &[&str], files: &[&Path]) -> Result<String> {
    let output = Command::new(program).args(words).args(files).output()?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// A program without symbols in a folder, and its debug file at a path, which is not beside it. With `link` the program names that file.
fn stripped(folder: &Folder, name: &str, debug: &Path, link: bool) -> Result<PathBuf> {
    let (whole, program) = (build(name, Build::C)?, folder.join(name));
    fs::create_dir_all(debug.parent().context("it has a folder")?)?;
    binutils("objcopy", &["--only-keep-debug"], &[&whole, debug])?;
    binutils("objcopy", &["--strip-all"], &[&whole, &program])?;
    if link {
        binutils("objcopy", &[&format!("--add-gnu-debuglink={}", debug.display())], &[&program])?;
    }
    Ok(program)
}

/// The build id of a subject.
fn build_id(name: &str) -> Result<String> {
    let notes = binutils("readelf", &["-n"], &[&build(name, Build::C)?])?;
    notes.lines().find_map(|line| line.trim().strip_prefix("Build ID: ")).map(str::to_owned).context("no build id")
}

/// A recording of a program that spins.
fn recorded(program: &Path, more: &[&Path]) -> Result<Profile> {
    let subject = Subject::start(program, ["1000"])?;
    let options = more.iter().flat_map(|place| [Path::new("--debug-dir"), place]);
    Profiler::record()?.pid(subject.pid()).args(["-F", "199", "-d", "1"]).args(options).run()?.success()?.profile().map(|all| all.taken())
}

/// Nearly all samples are in the loop of `spin_here`, by function, file and line.
fn is_named(profile: &Profile) -> Result<()> {
    let text = fs::read_to_string(source("spin", Build::C))?;
    let first = text.lines().position(|line| line.contains("void spin_here(")).context("no spin_here")? as i64 + 1;
    let in_loop = profile.only(|sample| {
        let Some((function, line)) = profile.locations[sample.locations[0]].lines.first() else { return false };
        let function = &profile.functions[*function];
        let whole = profile.names(sample).starts_with(&["spin_here", "middle", "outer", "main"]);
        whole && function.filename.ends_with("tests/subjects/spin.c") && function.start_line == first && *line == first + 3
    });
    let (named, all) = (in_loop.total(0), profile.total(0));
    ensure!(all > 50 && named as f64 > 0.85 * all as f64, "{named} of {all}: {:?}", profile.flat());
    Ok(())
}

/// No sample has a name of the program.
fn is_unnamed(profile: &Profile) -> Result<()> {
    let names = profile.cumulative();
    ensure!(profile.total(0) > 50 && !names.contains_key("spin_here") && !names.contains_key("main"), "{names:?}");
    Ok(())
}

#[test]
fn a_debug_file_is_found_by_build_id() -> Result<()> {
    if !can_record(&[Build::C]) || !ready(&[Need::Program("objcopy"), Need::Program("readelf")]) {
        return Ok(());
    }
    let (folder, place) = (Folder::create()?, Folder::create()?);
    let id = build_id("spin")?;
    let debug = place.join(format!(".build-id/{}/{}.debug", &id[..2], &id[2..]));
    let program = stripped(&folder, "spin", &debug, false)?;
    is_unnamed(&recorded(&program, &[])?)?;
    is_unnamed(&recorded(&program, &[folder.path()])?)?;
    is_named(&recorded(&program, &[place.path()])?)?;
    // Of several places each is looked at.
    is_named(&recorded(&program, &[folder.path(), place.path()])?)
}

#[test]
fn a_debug_file_is_found_by_the_link_in_the_program() -> Result<()> {
    if !can_record(&[Build::C]) || !ready(&[Need::Program("objcopy")]) {
        return Ok(());
    }
    let (folder, place) = (Folder::create()?, Folder::create()?);
    // In the place itself, and where the program's own folder would be in it.
    let below = place.join(folder.path().strip_prefix("/")?);
    for debug in [place.join("apart.debug"), below.join("apart.debug")] {
        let program = stripped(&folder, "spin", &debug, true)?;
        is_unnamed(&recorded(&program, &[])?)?;
        is_named(&recorded(&program, &[place.path()])?)?;
        fs::remove_file(&debug)?;
        is_unnamed(&recorded(&program, &[place.path()])?)?;
    }
    Ok(())
}

#[test]
fn a_debug_file_of_another_build_is_not_taken() -> Result<()> {
    if !can_record(&[Build::C]) || !ready(&[Need::Program("objcopy"), Need::Program("readelf")]) {
        return Ok(());
    }
    let (folder, place) = (Folder::create()?, Folder::create()?);
    let id = build_id("spin")?;
    // The same program but for its build id: every address has a name in it, which must not be believed.
    let (other, note) = (folder.join("other"), folder.join("note"));
    let words = [4u32, 20, 3].iter().flat_map(|word| word.to_ne_bytes());
    fs::write(&note, words.chain(*b"GNU\0").chain([0xab; 20]).collect::<Vec<u8>>())?;
    let section = format!(".note.gnu.build-id={}", note.display());
    binutils("objcopy", &["--update-section", &section], &[&build("spin", Build::C)?, &other])?;
    for (debug, link) in [(format!(".build-id/{}/{}.debug", &id[..2], &id[2..]), false), ("apart.debug".to_owned(), true)] {
        let program = stripped(&folder, "spin", &place.join(&debug), link)?;
        binutils("objcopy", &["--only-keep-debug"], &[&other, &place.join(&debug)])?;
        is_unnamed(&recorded(&program, &[place.path()])?).with_context(|| debug)?;
    }
    Ok(())
}
