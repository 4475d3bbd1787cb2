//! Unwind tables as the parser makes them: rules for places in a file, in parts that the kernel side can search.

/// What a file says of how to leave its code.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UnwindTable {
    /// Parts, by their first place; none overlap.
    pub parts: Vec<UnwindPart>,
    /// What holds for code outside of every part.
    pub elsewhere: Elsewhere,
    /// Rows of all parts.
    pub rows: u64,
}

/// What holds for code that no part covers: what is not in the file's segments of code, or everything if it has no table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Elsewhere {
    /// It is walked as perf does, by frame pointers, if it keeps any.
    #[default]
    FramePointers,
    /// It is Go's, which keeps frame pointers.
    Go,
}

/// A stretch of code and its rules.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnwindPart {
    /// File offset of the first byte that it covers.
    pub first: u64,
    /// The words of `profiler_common::unwind::table`.
    pub words: Vec<u32>,
}

impl UnwindPart {
    /// The word at a place; 0 where there is none, since a search may look beyond.
    pub fn word(&self, at: u64) -> u32 {
        usize::try_from(at).ok().and_then(|at| self.words.get(at)).copied().unwrap_or(0)
    }

    /// Bytes of code that it covers.
    pub fn length(&self) -> u32 {
        self.words.first().copied().unwrap_or(0)
    }
}
