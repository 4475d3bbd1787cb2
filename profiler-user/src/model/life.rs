//! How long blocks live: what a key of blocks tells apart beside their size class, in the bits of [`SampleKey::class`](super::window::SampleKey::class)
//! above it.

use std::time::Duration;

/// Where the age begins, and one bit behind it.
const AGE_SHIFT: u32 = 48;
const TEMPORARY: u64 = 1 << 56;
const SIZE_BITS: u64 = (1 << AGE_SHIFT) - 1;

/// An age by tens: from 0, 1, 10, 100 milliseconds, and so on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Age(u8);

impl Age {
    /// Of what has lived for so long.
    pub fn of(lived: Duration) -> Self {
        let ms = u64::try_from(lived.as_millis()).unwrap_or(u64::MAX);
        Self(ms.checked_ilog10().map_or(0, |tens| tens as u8 + 1))
    }

    /// The least that has it, milliseconds.
    pub fn from_ms(self) -> i64 {
        self.0.checked_sub(1).map_or(0, |tens| 10_i64.saturating_pow(u32::from(tens)))
    }
}

/// The class of what lives, and has this age.
pub fn with_age(class: u64, age: Age) -> u64 {
    class | u64::from(age.0 + 1) << AGE_SHIFT
}

/// The class of what was freed soon.
pub fn temporary(class: u64) -> u64 {
    class | TEMPORARY
}

/// The size class, bytes.
pub fn size(class: u64) -> u64 {
    class & SIZE_BITS
}

/// The age, where it was asked for and the blocks live.
pub fn age(class: u64) -> Option<Age> {
    ((class >> AGE_SHIFT) as u8).checked_sub(1).map(Age)
}

/// Whether it is of what was freed soon.
pub fn is_temporary(class: u64) -> bool {
    class & TEMPORARY != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_go_by_tens_of_milliseconds() {
        for (lived_us, from_ms) in
            [(0, 0), (999, 0), (1_000, 1), (9_999, 1), (10_000, 10), (99_999_999, 10_000), (3_600_000_000, 1_000_000)]
        {
            assert_eq!(Age::of(Duration::from_micros(lived_us)).from_ms(), from_ms, "{lived_us}");
        }
        assert!(Age::of(Duration::MAX).from_ms() > 0);
    }

    #[test]
    fn a_class_tells_size_age_and_what_was_freed_soon() {
        let of = Age::of(Duration::from_secs(2));
        let class = with_age(112, of);
        assert_eq!((size(class), age(class), is_temporary(class)), (112, Some(of), false));
        let class = temporary(1 << 40);
        assert_eq!((size(class), age(class), is_temporary(class)), (1 << 40, None, true));
        assert_eq!((size(112), age(112), is_temporary(112)), (112, None, false));
    }
}
