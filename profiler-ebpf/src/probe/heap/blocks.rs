//! Whether blocks are counted, and the calls that have not returned.

use super::Return;
use crate::live::freed;
use crate::maps::COUNTING;
use crate::pending::{Returned, Slot};
use crate::place::{OfProbe, Place as _};
use profiler_common::loss::Loss;
use profiler_common::source::Source;
use profiler_common::tally::{COUNTING_ALL, COUNTING_NOTHING, COUNTING_RETURNS, PendingCall, PendingKey};

/// Whether anything is to be counted now.
#[inline(always)]
pub fn are_counted() -> bool {
    counting() == COUNTING_ALL
}

/// Of a call that is not counted: whether its return is to be seen nevertheless.
#[inline(always)]
pub fn uncounted() -> Return {
    if counting() == COUNTING_RETURNS { Return::Seen } else { Return::NotSeen }
}

/// One of the `COUNTING_*`.
#[inline(always)]
fn counting() -> u32 {
    // SAFETY: a live map value; user space writes it whole.
    COUNTING.get_ptr(0).map_or(COUNTING_NOTHING, |counting| unsafe { core::ptr::read_volatile(counting) })
}

/// Waits for a call to return. A block that was to be given back by one that is not waited for any more counts as freed: whether it was is not seen. If there is
/// no place right now, that is counted as a free that was not seen.
#[inline(always)]
pub fn wait(key: &PendingKey, call: &PendingCall) -> Return {
    let Some(mut slot) = Slot::claim(key) else {
        if call.has_old != 0 {
            OfProbe::lose(Source::CALLS, Loss::FreeUnseen);
        }
        return Return::NotSeen;
    };
    if let Some(former) = slot.former().filter(|former| former.has_old != 0) {
        give_up(former);
    }
    *slot.call() = *call;
    slot.waits();
    Return::Seen
}

/// A function of its own, and so is its stack: that of a program and of what it calls is 512 bytes in all.
#[inline(never)]
pub fn give_up(former: &PendingCall) {
    freed(Source::CALLS, &former.old);
}

/// The call that has returned, if it was waited for.
#[inline(always)]
pub fn over(key: &PendingKey) -> Option<PendingCall> {
    let returned = Returned::find(key)?;
    let held = *returned.call();
    returned.leave(key).then_some(held)
}
