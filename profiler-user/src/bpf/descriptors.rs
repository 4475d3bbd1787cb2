//! The file descriptors that are open, as the kernel side keeps them.

use super::error::BpfError;
use aya::maps::{HashMap, MapData, MapError};
use profiler_common::descriptor::{Descriptor, DescriptorKey};

/// Words of a [`DescriptorKey`], and of a [`Descriptor`].
const KEY_WORDS: usize = size_of::<DescriptorKey>() / 8;
/// As above.
const VALUE_WORDS: usize = size_of::<Descriptor>() / 8;
/// The map.
pub(super) type Descriptors = HashMap<MapData, [u64; KEY_WORDS], [u64; VALUE_WORDS]>;

/// All of them. Nothing writes any more.
pub(super) fn read(descriptors: &Descriptors) -> Result<Vec<(DescriptorKey, Descriptor)>, BpfError> {
    let failed = |error: MapError| BpfError::Map { map: "DESCRIPTORS", reason: error.to_string() };
    descriptors
        .iter()
        .map(|entry| {
            let (key, value) = entry.map_err(failed)?;
            Ok((zerocopy::transmute!(key), zerocopy::transmute!(value)))
        })
        .collect()
}
