//! `profiler check`: a row a feature, what it is for, and what to do where it does not work.

use profiler::capability::{self, Need, Row, State};
use profiler::config::{Config, Target};
use profiler::model::text::printable;
use profiler::pipeline::Recorder;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

/// Long enough for a tick, too short to be noticed.
const TRIAL: Duration = Duration::from_millis(50);

/// Prints the table. The status is a failure if `record` would fail.
pub(crate) fn run() -> ExitCode {
    let mut rows = capability::rows();
    // What is known to fail is not tried: its row says more than the error would.
    if !rows.iter().any(Row::forbids_recording) {
        rows.push(trial());
    }
    let mut out = io::stdout().lock();
    match print(&rows, &mut out).and_then(|()| out.flush()) {
        // Whoever closed the pipe has read enough; the status still counts.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            crate::summary::say(&format!("profiler: writing the table to standard output: {error}\n"));
            return ExitCode::FAILURE;
        }
        _ => {}
    }
    if rows.iter().any(Row::forbids_recording) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Records everything for a moment: the one row that proves the others.
fn trial() -> Row {
    let targets = vec![Target::All, Target::Pid(std::process::id())];
    let config = Config { targets, duration: Some(TRIAL), ..Config::default() };
    let failure = Recorder::new(config).record(&mut ()).err().map(|error| error.to_string());
    Row {
        feature: "a trial recording",
        state: if failure.is_some() { State::Missing } else { State::Ok },
        need: Need::Record,
        purpose: "everything together",
        advice: if failure.is_some() { "the rows above may say why" } else { "" }.to_owned(),
        seen: failure.unwrap_or_default(),
    }
}

fn print(rows: &[Row], out: &mut dyn Write) -> io::Result<()> {
    let width = rows.iter().map(|row| row.feature.len()).max().unwrap_or(0);
    for row in rows {
        writeln!(out, "{:<8} {:<width$}  {}", name(row.state), row.feature, line(row))?;
        if !row.advice.is_empty() {
            writeln!(out, "{:8} {:width$}  -> {}", "", "", printable(&row.advice))?;
        }
    }
    let lacking: Vec<&str> = rows.iter().filter(|row| row.forbids_recording()).map(|row| row.feature).collect();
    match lacking.as_slice() {
        [] => writeln!(out, "\nRecording works here.")?,
        lacking => writeln!(out, "\nRecording does not work here; it lacks: {}.", lacking.join(", "))?,
    }
    if rows.iter().any(|row| row.feature.starts_with("capability") && row.state != State::Ok) {
        writeln!(out, "For all capabilities: {}", printable(&capability::ways_out()))?;
    }
    Ok(())
}

fn name(state: State) -> &'static str {
    match state {
        State::Ok => "ok",
        State::Limited => "limited",
        State::Missing => "missing",
    }
}

/// What it is for, and what was seen.
fn line(row: &Row) -> String {
    if row.seen.is_empty() { row.purpose.to_owned() } else { format!("{} ({})", row.purpose, printable(&row.seen)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(state: State, need: Need, advice: &str) -> Row {
        Row { feature: "BTF", state, need, purpose: "types", seen: "a\u{1b}b".to_owned(), advice: advice.to_owned() }
    }

    fn printed(rows: &[Row]) -> String {
        let mut out = Vec::new();
        print(rows, &mut out).expect("memory does not fail");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_row_that_works_is_a_line_and_what_was_seen_is_made_harmless() {
        assert_eq!(printed(&[row(State::Ok, Need::Record, "")]), "ok       BTF  types (a\\u{1b}b)\n\nRecording works here.\n");
    }

    #[test]
    fn a_lack_says_what_to_do_and_whether_it_matters() {
        let text = printed(&[row(State::Missing, Need::Record, "build it in")]);
        assert!(text.contains("missing  BTF  types") && text.contains("-> build it in") && text.contains("it lacks: BTF."), "{text}");
        assert!(printed(&[row(State::Missing, Need::Feature, "x")]).contains("Recording works here."));
    }
}
