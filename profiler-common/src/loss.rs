//! Every way an event can fail to arrive: one numbered list. An id is never given to another meaning; one that falls out of use stays reserved.

macro_rules! losses {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $label:literal;)*) => {
        /// Why an event that happened is not in the profile.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Loss { $($(#[$doc])* $name = $id,)* }

        impl Loss {
            /// All of them, in the order of their ids.
            pub const ALL: &'static [Loss] = &[$(Loss::$name,)*];

            /// One word or two for people: the last line on stderr, the comment and the frame in the profile.
            pub const fn label(self) -> &'static str {
                match self { $(Loss::$name => $label,)* }
            }
        }

        impl TryFrom<u32> for Loss {
            type Error = u32;
            fn try_from(id: u32) -> Result<Self, u32> {
                match id { $($id => Ok(Loss::$name),)* other => Err(other) }
            }
        }
    };
}

losses! {
    /// The kernel's clock ticked, but our program was not run: another tracing program was active on that CPU (`bpf_prog_active`), or the tick came late.
    NotRun = 0, "program not run";
    /// The ring had no room for the sample.
    RingFull = 1, "ring full";
    /// The ring had no room for the stack that the sample names.
    StackRingFull = 2, "ring full for stack";
    /// The sample names a stack that user space no longer holds.
    StackMissing = 3, "stack no longer held";
    /// A record that does not read as what it says it is.
    Malformed = 4, "malformed record";
    /// More processes to follow than the target's map holds.
    TargetFull = 5, "target map full";
    /// A bound of user space on distinct stacks or keys was reached.
    WindowFull = 6, "window full";
    /// The kernel dropped mapping or process records of its own (`PERF_RECORD_LOST`): names may be missing, no sample is.
    ProcessEvents = 7, "process events dropped";
    /// Per-CPU scratch was not there.
    NoScratch = 8, "no scratch";
    /// The map of what is counted in the kernel is full.
    TallyFull = 9, "tally map full";
    /// More blocks live than their map holds: this one is not followed, and others stand for it.
    LiveFull = 10, "live map full";
    /// A sampled call that never returned: its thread ended, or jumped over it.
    NoReturn = 11, "call never returned";
    /// A block was allocated where one lives: a call that freed that one was not seen.
    FreeUnseen = 12, "free not seen";
    /// More threads wait than their map holds, or at more words than theirs: the wait is in no count.
    WaitsFull = 13, "waits map full";
}

impl Loss {
    /// How many ids there are; an array indexed by id has this length.
    pub const COUNT: usize = Self::ALL.len();

    /// Whether a lost event of this kind is a sample of the clock (and so part of the conservation sum), or something beside it.
    pub const fn is_sample(self) -> bool {
        !matches!(self, Loss::ProcessEvents | Loss::TargetFull | Loss::LiveFull | Loss::FreeUnseen)
    }

    /// Whether it happens before the target is looked at, so that nobody knows whether the sample had been asked for.
    pub const fn is_before_filter(self) -> bool {
        matches!(self, Loss::NotRun)
    }
}

#[cfg(test)]
mod tests {
    use super::Loss;

    #[test]
    fn ids_are_dense_and_round_trip() {
        for (at, loss) in Loss::ALL.iter().enumerate() {
            assert_eq!(*loss as usize, at);
            assert_eq!(Loss::try_from(*loss as u32), Ok(*loss));
        }
        assert_eq!(Loss::try_from(Loss::COUNT as u32), Err(Loss::COUNT as u32));
    }
}
