//! No bytes make the parser panic, and what it says of a damaged library still lies in the file.

use super::*;
use crate::parse::probe_place::is_emulated;
use proptest::prelude::*;
use std::sync::LazyLock;

/// The C library that this program runs with.
static LIBRARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let path = maps.lines().filter_map(|line| line.split_whitespace().nth(5)).find(|path| path.contains("libc.so"));
    std::fs::read(path.unwrap()).unwrap()
});

fn hold(bytes: &[u8]) -> usize {
    let Ok(found) = allocator(bytes, &[]) else { return 0 };
    assert!(found.functions.len() <= FUNCTIONS_MAX && found.own.len() <= OWN_MAX);
    assert!(found.own.windows(2).all(|pair| pair[0].1 <= pair[1].0));
    assert!(found.own.iter().all(|(first, end)| first < end && *end <= bytes.len() as u64));
    for function in &found.functions {
        for place in [function.at_entry, function.after_entry] {
            assert!(place.offset >= function.entry && place.offset < bytes.len() as u64);
            assert!(!place.is_emulated || is_emulated(&bytes[place.offset as usize..]));
        }
    }
    found.functions.len()
}

#[test]
fn the_library_is_an_allocator() {
    assert!(hold(&LIBRARY) >= 6);
}

#[test]
fn what_the_kernel_emulates_is_known_by_its_bytes() {
    for yes in
        [&[0x55][..], &[0x41, 0x54], &[0x90], &[0xeb, 1], &[0xe9, 0, 0, 0, 0], &[0xe8, 0, 0, 0, 0], &[0x74, 2], &[0x0f, 0x84, 0, 0, 0, 0]]
    {
        assert!(is_emulated(yes), "{yes:x?}");
    }
    for no in [&[0x66, 0x90][..], &[0x0f, 0x1f, 0x44, 0, 0], &[0x68, 0, 0, 0, 0], &[0x66, 0xe9, 0, 0], &[0xff, 0x25], &[0x48, 0x55], &[]] {
        assert!(!is_emulated(no), "{no:x?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..2000), is_elf in any::<bool>()) {
        if is_elf && bytes.len() > 64 {
            bytes[..64].copy_from_slice(&LIBRARY[..64]);
        }
        hold(&bytes);
    }

    #[test]
    fn no_damage_of_a_library_makes_it_panic(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..40)) {
        let mut bytes = LIBRARY.clone();
        let symbols = bytes.len().min(0x25000);
        let code = allocator(&LIBRARY, &[]).unwrap().own[0];
        for (at, value, place) in changes {
            let at = match place {
                0 => at.index(0x400),
                1 => at.index(symbols),
                _ => code.0 as usize + at.index((code.1 - code.0) as usize),
            };
            bytes[at] = value;
        }
        hold(&bytes);
    }
}
