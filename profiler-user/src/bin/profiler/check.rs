//! `profiler check`.

use std::process::ExitCode;

/// Prints the table.
pub(crate) fn run() -> ExitCode {
    match profiler::capability::missing_for_record() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("profiler: {error}");
            ExitCode::FAILURE
        }
    }
}
