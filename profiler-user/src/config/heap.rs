//! What is asked of a heap beside what is in use.

use crate::model::allocator::{AllocatorCall, GivenAllocator};
use std::time::Duration;

/// How long blocks live, where that is to be shown, and whose blocks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HeapConfig {
    /// What is in use is told apart by its age.
    pub age: bool,
    /// What is freed within this time is told apart.
    pub temporary: Option<Duration>,
    /// Allocators that are not found by the names of their functions.
    pub allocators: Vec<GivenAllocator>,
}

impl HeapConfig {
    /// The symbols of what makes blocks in the allocators that are not known by their names.
    pub fn entry_points(&self) -> Vec<String> {
        let functions = self.allocators.iter().flat_map(|allocator| &allocator.functions);
        functions.filter(|function| function.call != AllocatorCall::Free).map(|function| function.name.clone()).collect()
    }
}
