//! Where the kernel's code is, and by how much the machine has moved it (KASLR). No output carries an address with the slide in it.

/// Where `_text` is linked: `__START_KERNEL` of arch/x86/include/asm/page_types.h with the default CONFIG_PHYSICAL_START of 16 MiB.
pub const LINKED_TEXT: u64 = 0xffff_ffff_8100_0000;
/// What is reserved for the kernel's image on x86-64 (`KERNEL_IMAGE_SIZE` of arch/x86/include/asm/page_64_types.h); modules follow.
const IMAGE_END: u64 = 0xffff_ffff_c000_0000;

/// The kernel's image in this boot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct KernelLayout {
    /// How far it was moved, bytes.
    pub slide: u64,
}

impl KernelLayout {
    /// An address without the slide.
    pub fn unslid(self, address: u64) -> u64 {
        address.wrapping_sub(self.slide)
    }

    /// Whether an address, slide and all, lies in the kernel's own image, and not in a module or in code that the kernel made: those do not move with it.
    pub fn is_image(address: u64) -> bool {
        (LINKED_TEXT..IMAGE_END).contains(&address)
    }
}
