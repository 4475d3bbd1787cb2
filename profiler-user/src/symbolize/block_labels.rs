//! What the labels of a row of blocks say: their size class, and how long they have lived or did live, where that was asked for.

use crate::model::label::Label;
use crate::model::life;

/// The labels of a class.
pub(super) fn of(class: u64) -> impl Iterator<Item = Label> {
    let bytes = i64::try_from(life::size(class)).ok().filter(|bytes| *bytes > 0);
    let temporary = life::is_temporary(class).then(|| Label::text("lifetime", "temporary"));
    let bytes = bytes.map(|bytes| Label::number("bytes", bytes, "bytes"));
    let age = life::age(class).map(|age| Label::number("age", age.from_ms(), "milliseconds"));
    bytes.into_iter().chain(age).chain(temporary)
}
