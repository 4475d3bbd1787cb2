//! Counting, on this CPU alone.

use crate::maps::COUNTERS_CELLS;
use profiler_common::counter::{COUNTERS, Counter, loss_cell};
use profiler_common::loss::Loss;

/// Adds to a counter.
#[inline(always)]
pub fn add(counter: Counter, more: u64) {
    add_cell(counter as u32, more);
}

/// Counts one lost event.
#[inline(always)]
pub fn lose(loss: Loss) {
    add_cell(loss_cell(loss), 1);
}

#[inline(always)]
fn add_cell(cell: u32, more: u64) {
    if let Some(cells) = COUNTERS_CELLS.get_ptr_mut(0) {
        if cell < COUNTERS {
            // SAFETY: the cell is within the array, and only this CPU writes it.
            unsafe { (*cells)[cell as usize] += more };
        }
    }
}
