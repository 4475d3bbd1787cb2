//! For which machine a file was made: its registers, and how its code looks.

/// A machine whose code can be walked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Machine {
    /// x86-64.
    X86_64,
    /// 64-bit Arm.
    Arm64,
}

impl Machine {
    /// The one that we run on. Code of another is no code here, and rules for it would mean something else.
    pub const OWN: Self = if cfg!(target_arch = "aarch64") { Self::Arm64 } else { Self::X86_64 };

    /// The one that a file is for.
    pub(super) fn of(architecture: object::Architecture) -> Option<Self> {
        match architecture {
            object::Architecture::X86_64 => Some(Self::X86_64),
            object::Architecture::Aarch64 => Some(Self::Arm64),
            _ => None,
        }
    }

    /// Whose extensions of DWARF hold.
    pub(super) const fn vendor(self) -> gimli::Vendor {
        match self {
            Self::X86_64 => gimli::Vendor::Default,
            Self::Arm64 => gimli::Vendor::AArch64,
        }
    }
}
