//! What this kernel and these rights allow: a row a feature, found out by trying it on the smallest scale, never by guessing from a version alone.

mod kernel;
mod machine;
mod rights;
mod row;

pub use kernel::{TypesError, types_for_record};
pub use machine::{OpenFilesError, open_files_for_record};
pub use rights::{RightsError, missing_for_record, ways_out};
pub use row::{Need, Row, State};

/// Looks at every feature.
pub fn rows() -> Vec<Row> {
    let rights = rights::Rights::own();
    let types = kernel::Types::read();
    let mut rows = kernel::base(&types);
    rows.extend(rights::rows(&rights));
    rows.extend(machine::perf_events(&rights));
    rows.extend(kernel::programs(&types, &rights));
    rows.extend(machine::surroundings());
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_says_what_it_is_for_and_every_lack_what_to_do() {
        let rows = rows();
        assert!(rows.len() >= 20);
        for row in &rows {
            assert!(!row.purpose.is_empty(), "{row:?}");
            assert_eq!(row.state == State::Ok, row.advice.is_empty(), "{row:?}");
        }
        let mut names: Vec<&str> = rows.iter().map(|row| row.feature).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), rows.len(), "a feature has one row");
    }

    #[test]
    fn the_rows_agree_with_the_rights() {
        let lacks_rights = rows().iter().any(|row| row.forbids_recording() && row.feature.starts_with("capability "));
        assert_eq!(lacks_rights, missing_for_record().is_err());
    }

    #[test]
    fn what_only_a_feature_needs_forbids_nothing() {
        let row = Row::new("x", Need::Feature, "y").but(State::Missing, "z");
        assert!(!row.forbids_recording());
        assert!(Row { need: Need::Record, ..row.clone() }.forbids_recording());
        assert!(!Row { need: Need::Record, state: State::Limited, ..row }.forbids_recording());
    }
}
