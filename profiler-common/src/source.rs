//! Event sources: what makes events. Each has counters of its own, and its number stands in all that it sends.

/// Sources at most: rows of the counters.
pub const SOURCES: u32 = 24;

/// An event source, as the number that crosses the border.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct Source(u16);

impl Source {
    /// The CPU clock, or hardware cycles.
    pub const CLOCK: Self = Self(0);
    /// Page faults.
    pub const FAULTS: Self = Self(1);
    /// Calls of allocators.
    pub const CALLS: Self = Self(2);
    /// What follows the processes of the target.
    pub const TARGET: Self = Self(3);
    /// Mappings of memory.
    pub const MAPPINGS: Self = Self(4);
    /// File descriptors that are got.
    pub const DESCRIPTORS: Self = Self(5);
    /// Threads that are not running: sleeps, and waits for a CPU.
    pub const OFF_CPU: Self = Self(6);
    /// Waits for another thread, charged to the one that waits.
    pub const BLOCK: Self = Self(7);
    /// The same, charged to the one that ends them.
    pub const MUTEX: Self = Self(8);
    /// Threads that are started.
    pub const THREADS: Self = Self(9);
    /// Who ends sleeps: named alone, and counted nowhere.
    pub const WAKERS: Self = Self(10);
    /// The first of the custom profiles; those behind it are theirs, too.
    const FIRST_CUSTOM: u16 = 16;

    /// How many custom profiles there can be.
    pub const CUSTOM_MAX: u16 = SOURCES as u16 - Self::FIRST_CUSTOM;

    /// That of a custom profile; None beyond [`Self::CUSTOM_MAX`].
    pub const fn custom(at: u16) -> Option<Self> {
        if at < Self::CUSTOM_MAX { Some(Self(Self::FIRST_CUSTOM + at)) } else { None }
    }

    /// Its number: the row of its counters.
    #[inline(always)]
    pub const fn number(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for Source {
    type Error = u16;
    #[inline(always)]
    fn try_from(number: u16) -> Result<Self, u16> {
        if (number as u32) < SOURCES { Ok(Self(number)) } else { Err(number) }
    }
}

#[cfg(test)]
mod tests {
    use super::Source;

    #[test]
    fn numbers_round_trip_and_custom_ones_are_bounded() {
        let last = Source::custom(Source::CUSTOM_MAX - 1).expect("one of them");
        assert_eq!(Source::try_from(last.number()), Ok(last));
        assert_eq!(Source::custom(Source::CUSTOM_MAX), None);
        assert!(Source::try_from(last.number() + 1).is_err());
        assert!(Source::custom(0) > Some(Source::TARGET));
    }
}
