//! Classes of block sizes, those of Go (runtime/sizeclasses.go, Go 1.26): rows of a heap profile are told apart by class, or each size would be a row.

const CLASSES: [u32; 128] = {
    let known: [u32; 67] = [
        8, 16, 24, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240, 256, 288, 320, 352, 384, 416, 448, 480, 512, 576, 640,
        704, 768, 896, 1024, 1152, 1280, 1408, 1536, 1792, 2048, 2304, 2688, 3072, 3200, 3456, 4096, 4864, 5120, 5376, 6144, 6528, 6784,
        6912, 8192, 9472, 9728, 10240, 10880, 12288, 13568, 14336, 16384, 18432, 19072, 20480, 21760, 24576, 27264, 28672,
    ];
    let mut classes = [LARGEST; 128];
    let mut at = 0;
    while at < known.len() {
        classes[at] = known[at];
        at += 1;
    }
    classes
};
const LARGEST: u32 = 32768;
/// Larger blocks are rounded up to whole pages of Go's.
const PAGE: u64 = 8192;

/// The bytes of the class that a block of `size` bytes is in.
#[inline(always)]
pub fn class_bytes(size: u64) -> u64 {
    if size > LARGEST as u64 {
        return size.saturating_add(PAGE - 1) & !(PAGE - 1);
    }
    let mut at = 0usize;
    let mut step = 64usize;
    while step > 0 {
        // The index is masked for the verifier; it is below 128 anyway.
        if u64::from(CLASSES[(at + step - 1) & 127]) < size {
            at += step;
        }
        step /= 2;
    }
    u64::from(CLASSES[at & 127])
}

#[cfg(test)]
mod tests {
    use super::class_bytes;
    use std::vec::Vec;

    #[test]
    fn a_block_is_in_the_smallest_class_that_holds_it() {
        for (size, class) in
            [(0, 8), (1, 8), (8, 8), (9, 16), (33, 48), (1025, 1152), (28672, 28672), (28673, 32768), (32768, 32768), (32769, 40960)]
        {
            assert_eq!(class_bytes(size), class, "{size}");
        }
        assert_eq!(class_bytes((1 << 30) + 1), (1 << 30) + 8192);
        assert_eq!(class_bytes(u64::MAX), !8191);
        let classes: Vec<u64> = (0..=32768).map(class_bytes).collect();
        assert!(classes.is_sorted() && classes.iter().enumerate().all(|(size, class)| *class >= size as u64));
    }
}
