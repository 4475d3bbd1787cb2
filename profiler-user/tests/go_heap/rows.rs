//! Rows of a heap profile: ours, and those of Go's own text.

use profiler::go::heap::{GoBucket, GoHeapProfile};
use std::collections::HashSet;

/// A row as the text has it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Row {
    pub in_use_objects: i64,
    pub in_use_bytes: i64,
    pub alloc_objects: i64,
    pub alloc_bytes: i64,
    pub stack: Vec<u64>,
}

impl From<GoBucket> for Row {
    fn from(bucket: GoBucket) -> Self {
        Self {
            in_use_objects: bucket.alloc_objects.wrapping_sub(bucket.free_objects).cast_signed(),
            in_use_bytes: bucket.alloc_bytes.wrapping_sub(bucket.free_bytes).cast_signed(),
            alloc_objects: bucket.alloc_objects.cast_signed(),
            alloc_bytes: bucket.alloc_bytes.cast_signed(),
            stack: bucket.stack,
        }
    }
}

/// Rows of our profile.
pub(crate) fn ours(profile: GoHeapProfile) -> Vec<Row> {
    profile.buckets.into_iter().map(Row::from).collect()
}

/// Rows of the program's own text: `1: 48 [2: 96] @ 0x4a 0x4b`.
pub(crate) fn own(text: &str) -> Vec<Row> {
    let row = |line: &str| {
        let (figures, stack) = line.split_once(" @")?;
        let figures = figures.strip_suffix(']')?.replace(['[', ':'], "");
        let figures: Vec<i64> = figures.split(' ').map(|figure| figure.parse().unwrap()).collect();
        let [in_use_objects, in_use_bytes, alloc_objects, alloc_bytes] = figures[..] else { return None };
        let stack = stack.split_whitespace().map(number).collect();
        Some(Row { in_use_objects, in_use_bytes, alloc_objects, alloc_bytes, stack })
    };
    text.lines()
        .filter(|line| line.starts_with(|first: char| first.is_ascii_digit() || first == '-'))
        .map(|line| row(line).unwrap())
        .collect()
}

fn number(text: &str) -> u64 {
    u64::from_str_radix(text.strip_prefix("0x").unwrap(), 16).unwrap()
}

/// Those that count anything, in an order of their own.
pub(crate) fn counted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.retain(|row| row.alloc_objects != 0 || row.in_use_objects != 0 || row.alloc_bytes != 0);
    rows.sort();
    rows
}

/// Those of the paths that the subject allocates on, by the names that the text gives. (It gives them for the calls, a byte before the return addresses.)
pub(crate) fn by_subject(mut rows: Vec<Row>, text: &str) -> Vec<Row> {
    let named = |line: &str| {
        let mut words = line.strip_prefix("#\t")?.split('\t');
        let (address, name) = (words.next()?, words.next()?);
        ["main.leaf+", "main.deep+"].iter().any(|path| name.starts_with(path)).then(|| number(address) + 1)
    };
    let paths: HashSet<u64> = text.lines().filter_map(named).collect();
    assert!(!paths.is_empty());
    rows.retain(|row| row.stack.iter().any(|pc| paths.contains(pc)));
    rows
}
