//! `profiler record -p PID` gives a profile with the right names, lines, labels and values.

use anyhow::{Context, Result, ensure};
use profiler_tests::profile::{Profile, Sample};
use profiler_tests::run::Profiler;
use profiler_tests::skip::can_record;
use profiler_tests::subject::{Build, Subject, build, source};
use std::fs;
use std::process::Command;

/// Records a subject for a few seconds; the samples that were taken of it.
fn recorded(subject: &Subject, more: &[&str]) -> Result<Profile> {
    Profiler::record()?
        .pid(subject.pid())
        .args(["-F", "199", "-d", "3"])
        .args(more)
        .run()?
        .success()?
        .profile()
        .map(|profile| profile.taken())
}

/// The samples that interrupted user code, by their leaf.
fn in_user_code(profile: &Profile) -> Profile {
    profile.only(|sample| profile.leaf_mapping(sample).is_some_and(|mapping| !mapping.filename.starts_with('[')))
}

/// The share of a profile's samples for which something holds.
fn share(profile: &Profile, holds: impl FnMut(&Sample) -> bool) -> f64 {
    profile.only(holds).total(0) as f64 / profile.total(0) as f64
}

/// The line of a subject's source that holds a text, from 1.
fn line_of(name: &str, text: &str) -> Result<i64> {
    let lines = fs::read_to_string(source(name, Build::C))?;
    let at = lines.lines().position(|line| line.contains(text)).with_context(|| format!("{name}.c has no line `{text}`"))?;
    Ok(at as i64 + 1)
}

#[test]
fn a_spinning_program_is_seen_where_it_spins() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let subject = Subject::start(&build("spin", Build::C)?, ["1000"])?;
    let profile = recorded(&subject, &[])?;
    ensure!(profile.total(0) >= 400, "a program that always runs gave {} samples in 3 s at 199 Hz", profile.total(0));
    let cumulative = profile.cumulative();
    let spin = cumulative.get("spin_here").copied().unwrap_or(0);
    ensure!(spin as f64 >= 0.97 * profile.total(0) as f64, "spin_here: {spin} of {}; {:?}", profile.total(0), profile.flat());
    let user = in_user_code(&profile);
    let whole = share(&user, |sample| profile.names(sample).starts_with(&["spin_here", "middle", "outer", "main"]));
    ensure!(whole >= 0.97, "only {whole} of the stacks are spin_here, middle, outer, main");
    Ok(())
}

#[test]
fn the_head_of_the_profile_is_what_pprof_expects_of_a_cpu_profile() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let subject = Subject::start(&build("spin", Build::C)?, ["1000"])?;
    let profile = recorded(&subject, &[])?;
    let types: Vec<(&str, &str)> = profile.sample_types.iter().map(|(name, unit)| (name.as_str(), unit.as_str())).collect();
    assert_eq!(types, [("samples", "count"), ("cpu", "nanoseconds")]);
    assert_eq!(profile.period_type, ("cpu".to_owned(), "nanoseconds".to_owned()));
    assert_eq!(profile.period, 1_000_000_000 / 199);
    ensure!(profile.duration_ns >= 2_900_000_000, "3 s were asked for, {} ns recorded", profile.duration_ns);
    for sample in &profile.samples {
        assert_eq!(sample.values[1], sample.values[0] * profile.period, "nanoseconds are samples times the period");
    }
    let main = profile.mappings.first().context("no mapping")?;
    ensure!(main.filename.ends_with("/spin"), "the first mapping is {}, not the main binary", main.filename);
    ensure!(main.has_functions && main.has_filenames && main.has_line_numbers, "{main:?} is symbolized and does not say so");
    let notes = Command::new("readelf").arg("-n").arg(build("spin", Build::C)?).output()?;
    let notes = String::from_utf8_lossy(&notes.stdout).into_owned();
    let build_id = notes.lines().find_map(|line| line.trim().strip_prefix("Build ID: "));
    assert_eq!(Some(main.build_id.as_str()), build_id);
    Ok(())
}

#[test]
fn functions_have_their_file_their_first_line_and_samples_lines_inside() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let subject = Subject::start(&build("spin", Build::C)?, ["1000"])?;
    let profile = recorded(&subject, &[])?;
    let function = profile.functions.iter().find(|function| function.name == "spin_here").context("no spin_here")?;
    ensure!(function.filename.ends_with("tests/subjects/spin.c"), "{function:?}");
    let first = line_of("spin", "void spin_here(")?;
    assert_eq!(function.start_line, first);
    // The loop is on the third line below the function's first, and nothing else in it takes time.
    let user = in_user_code(&profile);
    let in_loop = share(&user, |sample| {
        let (function, line) = profile.locations[sample.locations[0]].lines[0];
        profile.functions[function].name == "spin_here" && line == first + 3
    });
    ensure!(in_loop >= 0.9, "only {in_loop} of the samples are on line {} of spin.c", first + 3);
    // A caller is shown on the line of its call, not on the next one.
    let call = line_of("spin", "    middle(rounds);")?;
    let outer = profile.functions.iter().position(|function| function.name == "outer").context("no outer")?;
    let lines: Vec<i64> =
        profile.locations.iter().flat_map(|location| &location.lines).filter(|line| line.0 == outer).map(|line| line.1).collect();
    ensure!(lines.contains(&call) && !lines.contains(&(call + 1)), "outer calls on line {call}, shown on {lines:?}");
    Ok(())
}

#[test]
fn inlined_functions_are_frames_of_one_location() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let subject = Subject::start(&build("inline", Build::C)?, [""; 0])?;
    let profile = recorded(&subject, &[])?;
    let user = in_user_code(&profile);
    let nested = share(&user, |sample| {
        let lines = &profile.locations[sample.locations[0]].lines;
        let names: Vec<&str> = lines.iter().map(|(function, _)| profile.functions[*function].name.as_str()).collect();
        names == ["innermost", "inner", "holder"]
    });
    ensure!(nested >= 0.9, "only {nested} of the samples are innermost in inner in holder: {:?}", profile.flat());
    ensure!(profile.mappings[0].has_inline_frames, "the mapping does not say that it has inlined functions");
    Ok(())
}

#[test]
fn a_deep_stack_is_whole() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let subject = Subject::start(&build("deep", Build::C)?, ["300"])?;
    let profile = recorded(&subject, &[])?;
    let user = in_user_code(&profile);
    let whole = share(&user, |sample| {
        let names = profile.names(sample);
        names.iter().filter(|name| **name == "descend").count() == 300 && names[0] == "bottom" && names.contains(&"main")
    });
    ensure!(whole >= 0.98, "only {whole} of the stacks have their 300 frames");
    Ok(())
}

#[test]
fn a_stack_beyond_the_bound_is_cut_at_its_root_end_and_said_to_be() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let subject = Subject::start(&build("deep", Build::C)?, ["3000"])?;
    let profile = recorded(&subject, &[])?;
    let user = in_user_code(&profile);
    let cut = share(&user, |sample| profile.names(sample)[0] == "bottom" && (1000..=1200).contains(&sample.locations.len()));
    ensure!(cut >= 0.98, "only {cut} of the stacks are the leaf end of a deep one");
    let said = profile.comments.iter().any(|comment| comment.contains("depth limit"));
    ensure!(said, "no comment says that stacks were cut at the depth limit: {:#?}", profile.comments);
    Ok(())
}

#[test]
fn every_sample_says_whose_it_is() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let subject = Subject::start(&build("spin", Build::C)?, ["1000"])?;
    let profile = recorded(&subject, &[])?;
    for sample in &profile.samples {
        let pid = sample.label("pid").context("no label pid")?;
        assert_eq!(pid.number, i64::from(subject.pid()), "{sample:?}");
        ensure!(!pid.unit.is_empty(), "a number without a unit vanishes when it is 0");
        assert_eq!(sample.label("comm").context("no label comm")?.text, "spin");
        ensure!(sample.label("tid").is_none() && sample.label("thread").is_none(), "threads were not asked for");
    }
    Ok(())
}

#[test]
fn threads_are_told_apart_when_asked_for() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let subject = Subject::start(&build("threads", Build::C)?, [""; 0])?;
    let profile = recorded(&subject, &["--per-thread"])?;
    for (thread, own, other) in [("worker-one", "work_of_one", "work_of_two"), ("worker-two", "work_of_two", "work_of_one")] {
        let of_thread = profile.labelled("thread", thread);
        let cumulative = of_thread.cumulative();
        ensure!(cumulative.get(own).copied().unwrap_or(0) > 50, "{thread} was hardly seen in {own}: {:?}", profile.label_values("thread"));
        ensure!(!cumulative.contains_key(other), "{thread} was seen in {other}");
        assert_eq!(of_thread.label_values("tid").len(), 1, "{thread} has one thread id");
        assert_eq!(of_thread.label_values("comm").into_keys().collect::<Vec<_>>(), ["threads"], "comm is the process's name");
    }
    Ok(())
}

#[test]
fn a_program_in_rust_has_readable_names_and_the_linkers_beside_them() -> Result<()> {
    if !can_record(&[Build::Rust]) {
        return Ok(());
    }
    let subject = Subject::start(&build("rustspin", Build::Rust)?, [""; 0])?;
    let profile = recorded(&subject, &[])?;
    let name = "rustspin::inner_module::spin_here";
    let spin = profile.cumulative().get(name).copied().unwrap_or(0);
    ensure!(spin as f64 >= 0.95 * profile.total(0) as f64, "{name}: {spin} of {}; {:?}", profile.total(0), profile.flat());
    let function = profile.functions.iter().find(|function| function.name == name).context("no such function")?;
    ensure!(function.system_name.starts_with("_ZN") || function.system_name.starts_with("_R"), "{function:?}");
    Ok(())
}

#[test]
fn a_program_in_go_has_names_even_without_a_symbol_table() -> Result<()> {
    if !can_record(&[Build::Go]) {
        return Ok(());
    }
    for how in [Build::Go, Build::GoStripped] {
        let subject = Subject::start(&build("gospin", how)?, [""; 0])?;
        let profile = recorded(&subject, &[])?;
        let cumulative = profile.cumulative();
        let spin = cumulative.get("main.spinHere").copied().unwrap_or(0);
        ensure!(
            spin as f64 >= 0.9 * profile.total(0) as f64,
            "{how:?}: main.spinHere {spin} of {}; {:?}",
            profile.total(0),
            profile.flat()
        );
        ensure!(cumulative.get("main.main").copied().unwrap_or(0) as f64 >= 0.9 * spin as f64, "{how:?}: the callers are missing");
        let function = profile.functions.iter().find(|function| function.name == "main.spinHere").context("no main.spinHere")?;
        ensure!(function.filename.ends_with("gospin.go"), "{how:?}: {function:?}");
    }
    Ok(())
}
