//! How a walk stopped. It travels with a stack that did arrive; an event that did not arrive is a [`crate::loss::Loss`].

macro_rules! endings {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $label:literal;)*) => {
        /// Why the walk of a user stack stopped where it did.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Ended { $($(#[$doc])* $name = $id,)* }

        impl Ended {
            /// All of them, in the order of their ids.
            pub const ALL: &'static [Ended] = &[$(Ended::$name,)*];

            /// A few words for people.
            pub const fn label(self) -> &'static str {
                match self { $(Ended::$name => $label,)* }
            }
        }

        impl TryFrom<u8> for Ended {
            type Error = u8;
            fn try_from(id: u8) -> Result<Self, u8> {
                match id { $($id => Ok(Ended::$name),)* other => Err(other) }
            }
        }
    };
}

endings! {
    /// The outermost frame was reached.
    Root = 0, "root reached";
    /// The bound on frames was reached; the root end is missing.
    DepthLimit = 1, "depth limit";
    /// The frame pointer does not lead to a caller: unaligned, or not above the frame before it.
    BadFramePointer = 2, "no frame pointer";
    /// The stack could not be read at that address.
    Unreadable = 3, "unreadable stack";
    /// The return address lies in no executable mapping of the process; what followed was no frame.
    NoMapping = 4, "no mapping";
    /// There was no user stack to walk: a kernel thread, or only kernel stacks were asked for.
    NoUserStack = 5, "no user stack";
    /// A 32-bit process on a 64-bit kernel: only the leaf is taken.
    Compat = 6, "32-bit process";
    /// Only the walk of the kernel part failed; the user part was not reached.
    NoScratch = 7, "no scratch";
    /// The file says nothing of how to leave the code there, or nothing that can be followed.
    NoRule = 8, "no rule";
    /// The table of the file was not there in time, or there was no room for the stack to be finished with it.
    NoTable = 9, "no table";
    /// The rule leads to no frame: it would lie at or below the one before it.
    BadFrame = 10, "bad frame";
}

impl Ended {
    /// How many ids there are.
    pub const COUNT: usize = Self::ALL.len();
}
