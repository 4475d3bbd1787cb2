//! Perf maps: the text in which a JIT compiler says what it has put where. A line is `START SIZE NAME`, numbers in hexadecimal; a later line replaces an
//! earlier one where they overlap, because code is moved and memory used again.
//!
//! Nothing but the asked addresses is kept, and every line is read on its own: one that makes no sense is passed over and spoils no other.

use crate::model::answer::TEXT_MAX_BYTES;

/// How much of a perf map is read, bytes; of a longer one the end, which is what holds now.
pub const PERF_MAP_MAX_BYTES: u64 = 64 << 20;

/// Longest piece of code that a line may claim, bytes: all that a compiler has made is less. One line must not take the names of all others away.
const CODE_MAX_BYTES: u64 = 1 << 30;

/// Longest line that is looked at, bytes.
const LINE_MAX_BYTES: usize = 2 * TEXT_MAX_BYTES;

/// The names of these addresses, in their order; `None` where no line has one.
pub fn names(map: &[u8], addresses: &[u64]) -> Vec<Option<String>> {
    let mut names = vec![None; addresses.len()];
    // Sorted, so that a line finds its addresses; from the last line to the first, so that each address is named once, by the line that holds.
    let mut open: Vec<(u64, usize)> = addresses.iter().copied().zip(0..).collect();
    open.sort_unstable();
    for line in map.rsplit(|byte| *byte == b'\n') {
        if open.is_empty() {
            break;
        }
        let Some((start, size, name)) = parse_line(line) else { continue };
        let from = open.partition_point(|(address, _)| *address < start);
        let to = from + open[from..].partition_point(|(address, _)| address - start < size);
        if from == to {
            continue;
        }
        let name = crate::model::answer::bounded(&String::from_utf8_lossy(name)).to_owned();
        for (_, at) in open.drain(from..to) {
            names[at] = Some(name.clone());
        }
    }
    names
}

fn parse_line(line: &[u8]) -> Option<(u64, u64, &[u8])> {
    let line = line.trim_ascii();
    if line.len() > LINE_MAX_BYTES {
        return None;
    }
    let (start, rest) = split_word(line)?;
    let (size, name) = split_word(rest)?;
    let (start, size) = (hexadecimal(start)?, hexadecimal(size)?);
    let is_range = (1..=CODE_MAX_BYTES).contains(&size) && start.checked_add(size).is_some();
    (is_range && !name.is_empty()).then_some((start, size, name))
}

/// The first word, and what follows the blanks behind it.
fn split_word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(u8::is_ascii_whitespace)?;
    Some((&text[..end], text[end..].trim_ascii_start()))
}

fn hexadecimal(text: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(text).ok()?;
    // `from_str_radix` would take a sign.
    let digits = digits.strip_prefix("0x").unwrap_or(digits);
    if digits.starts_with('+') { None } else { u64::from_str_radix(digits, 16).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names_of(map: &str, addresses: &[u64]) -> Vec<Option<String>> {
        names(map.as_bytes(), addresses)
    }

    fn some(name: &str) -> Option<String> {
        Some(name.to_owned())
    }

    #[test]
    fn addresses_have_the_names_of_their_lines() {
        let map = "1000 20 LazyCompile:~main /x y.js:1\n0x2000 10 f\n";
        let asked = [0x2000, 0x101f, 0x1020, 0xfff, 0x1000, 0x2000];
        let main = some("LazyCompile:~main /x y.js:1");
        assert_eq!(names_of(map, &asked), [some("f"), main.clone(), None, None, main, some("f")]);
    }

    #[test]
    fn the_later_line_holds_where_lines_overlap() {
        let map = "1000 100 old\n1010 10 new\n1018 4 newest\n";
        assert_eq!(names_of(map, &[0x1000, 0x1010, 0x1018, 0x101c, 0x1020]), ["old", "new", "newest", "new", "old"].map(some));
    }

    #[test]
    fn a_line_that_makes_no_sense_spoils_no_other() {
        let map = "zz 10 bad\n1000 10 good\n1000\n\n1000 zz worse\n+1000 10 sign\n-5 5 x\n1000 0 nothing\n1000 10 \nffffffffffffffff ffffffffffffffff end\n20";
        assert_eq!(names_of(map, &[0x1000, u64::MAX]), [some("good"), None]);
        let mut bytes = b"1000 10 na\xffme\r\n2000 10 ".to_vec();
        bytes.extend(vec![b'x'; 10 << 20]);
        assert_eq!(names(&bytes, &[0x1000, 0x2000]), [some("na\u{fffd}me"), None]);
    }

    #[test]
    fn a_long_name_is_cut() {
        let map = format!("1000 10 {}", "x".repeat(LINE_MAX_BYTES - 20));
        assert_eq!(names_of(&map, &[0x1000])[0].as_ref().map(String::len), Some(TEXT_MAX_BYTES));
    }

    #[test]
    fn lines_over_all_addresses_cost_no_more_than_reading_them() {
        let map = "0 3fffffff everything\n".repeat(300_000);
        let asked: Vec<u64> = (0..8192).collect();
        assert!(names_of(&map, &asked).iter().all(|name| *name == some("everything")));
    }

    #[test]
    fn a_line_that_claims_everything_is_not_believed() {
        let map = "1000 10 good\n0 ffffffffffffffff endless\n7000 40000001 nearly endless\n";
        assert_eq!(names_of(map, &[0x1000, 0x7000]), [some("good"), None]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(map in proptest::collection::vec(any::<u8>(), 0..300), text in "([0-9a-f]{0,17} [0-9a-f]{0,17} [a-z]{0,3}\n?){0,8}") {
            let asked = [0, 1, 0x10, 0xfff, u64::MAX];
            prop_assert_eq!(names(&map, &asked).len(), asked.len());
            prop_assert_eq!(names(text.as_bytes(), &asked).len(), asked.len());
        }
    }
}
