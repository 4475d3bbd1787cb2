//! Where a Go program's runtime keeps what it records of its goroutines' waits: the places of its variables, by their symbols, or in a stripped program by the
//! functions that use them. Seen in the runtime of 1.21.13, 1.22.10, 1.23.9, 1.24.11, 1.25.5, 1.26.8 and 1.27.3:
//!
//! - `stkbucket` takes the addresses of `bbuckets` and `xbuckets` to put a bucket in front; what reads the profile of each walks from it.
//! - `semacquire1` compares both rates with zero, `chansend` and `chanrecv` that of `block` alone.
//! - `ticksPerSecond` (`tickspersecond` in 1.21) looks first whether `ticks.val` is known.

use super::elf;
use super::go_heap::{self, Data, Symbols, having, only};
use super::go_operands::{Functions, Use};
use super::go_table;
use crate::model::go_heap::{NoGoHeap, Variable};
use crate::model::go_waits::{GoWaitList, GoWaitPlaces, GoWaits};
use object::{Architecture, Object as _};
use std::collections::HashMap;

/// Versions whose lists are known.
const MINORS: std::ops::RangeInclusive<u32> = 21..=27;

/// The functions that tell. Before 1.23 the profiles are read by the first ones of each pair.
const STKBUCKET: &str = "runtime.stkbucket";
const READ_BLOCK: [&str; 2] = ["runtime.BlockProfile", "runtime.blockProfileInternal"];
const READ_MUTEX: [&str; 2] = ["runtime.MutexProfile", "runtime.mutexProfileInternal"];
const ACQUIRE: &str = "runtime.semacquire1";
const CHANNELS: [&str; 2] = ["runtime.chansend", "runtime.chanrecv"];
const TICKS_PER_SECOND: [&str; 2] = ["runtime.tickspersecond", "runtime.ticksPerSecond"];
const FUNCTIONS: &[&str] = &[
    STKBUCKET,
    READ_BLOCK[0],
    READ_BLOCK[1],
    READ_MUTEX[0],
    READ_MUTEX[1],
    ACQUIRE,
    CHANNELS[0],
    CHANNELS[1],
    TICKS_PER_SECOND[0],
    TICKS_PER_SECOND[1],
];

/// The variables, by the linker's names.
const BLOCK: [&str; 2] = ["runtime.bbuckets", "runtime.blockprofilerate"];
const MUTEX: [&str; 2] = ["runtime.xbuckets", "runtime.mutexprofilerate"];
const TICKS: &str = "runtime.ticks";
const VARIABLES: [&str; 5] = [BLOCK[0], BLOCK[1], MUTEX[0], MUTEX[1], TICKS];

/// Finds the places.
///
/// # Errors
/// There are none in this file, or they are not known.
pub fn places(bytes: &[u8], symbols: Symbols) -> GoWaits {
    let file = object::File::parse(bytes).map_err(|_| NoGoHeap::NotGo)?;
    let version = go_heap::version(&file).ok_or(NoGoHeap::NotGo)?;
    let minor = go_heap::minor(&version).filter(|minor| MINORS.contains(minor)).ok_or(NoGoHeap::UnknownVersion(version))?;
    let table = go_table::find(bytes).ok_or(NoGoHeap::NotFound(Variable::Functions))?;
    let text = go_heap::text(&table, bytes).ok_or(NoGoHeap::NotFound(Variable::Functions))?;
    let named = if symbols == Symbols::Used { go_heap::named(&file, &VARIABLES) } else { HashMap::new() };
    if let Some(places) = by_name(&named, minor, text) {
        return Ok(places);
    }
    let functions = Functions::find(&table, bytes, &elf::segments(&file), FUNCTIONS);
    if !READ_BLOCK.iter().chain(&READ_MUTEX).any(|name| functions.has(name)) {
        return Err(NoGoHeap::WaitsLeftOut);
    }
    if file.architecture() != Architecture::X86_64 {
        return Err(NoGoHeap::NotFound(Variable::Waits));
    }
    by_code(&functions, &Data { file: &file }, minor, text)
}

fn by_name(named: &HashMap<&'static str, u64>, minor: u32, text: (u64, u64)) -> Option<GoWaitPlaces> {
    let list = |[buckets, rate]: [&str; 2]| Some(GoWaitList { buckets: *named.get(buckets)?, rate: *named.get(rate)? });
    // Behind a lock, and since 1.22 behind the ticks and the time at the start.
    let ticks_per_second = named.get(TICKS)?.checked_add(if minor == 21 { 8 } else { 24 })?;
    Some(GoWaitPlaces { block: list(BLOCK)?, mutex: list(MUTEX)?, ticks_per_second, minor, text })
}

fn by_code(functions: &Functions<'_>, data: &Data<'_>, minor: u32, text: (u64, u64)) -> GoWaits {
    let taken = having(functions, STKBUCKET, Use::Address);
    let buckets = |readers: [&str; 2]| {
        let walked = readers.into_iter().flat_map(|name| having(functions, name, Use::Load(8)));
        only(walked.filter(|address| taken.contains(address) && data.is_zero(*address, 8)).collect())
            .ok_or(NoGoHeap::NotFound(Variable::Waits))
    };
    let (block_rate, mutex_rate) = rates(functions, data).ok_or(NoGoHeap::NotFound(Variable::WaitRate))?;
    Ok(GoWaitPlaces {
        block: GoWaitList { buckets: buckets(READ_BLOCK)?, rate: block_rate },
        mutex: GoWaitList { buckets: buckets(READ_MUTEX)?, rate: mutex_rate },
        ticks_per_second: ticks(functions, data).ok_or(NoGoHeap::NotFound(Variable::Ticks))?,
        minor,
        text,
    })
}

/// The rates of `block` and of `mutex`.
fn rates(functions: &Functions<'_>, data: &Data<'_>) -> Option<(u64, u64)> {
    let both = having(functions, ACQUIRE, Use::IsZero(8)).into_iter().filter(|address| data.is_zero(*address, 8));
    let of_channels = CHANNELS.map(|name| having(functions, name, Use::IsZero(8)));
    let (block, mutex): (Vec<u64>, Vec<u64>) = both.partition(|address| of_channels.iter().all(|used| used.contains(address)));
    Some((only(block)?, only(mutex)?))
}

/// Where the number of ticks is kept: what is read first.
fn ticks(functions: &Functions<'_>, data: &Data<'_>) -> Option<u64> {
    let uses = TICKS_PER_SECOND.iter().find(|name| functions.has(name)).map(|name| functions.uses(name))?;
    uses.first().filter(|(address, used)| *used == Use::Load(8) && data.is_zero(*address, 8)).map(|(address, _)| *address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_is_none_of_gos() {
        assert_eq!(places(&std::fs::read("/proc/self/exe").unwrap(), Symbols::Used), Err(NoGoHeap::NotGo));
        assert_eq!(places(b"\x7fELF", Symbols::Ignored), Err(NoGoHeap::NotGo));
    }

    #[test]
    fn what_is_counted_lies_where_the_version_has_it() {
        let named: HashMap<&str, u64> = VARIABLES.into_iter().zip([8, 16, 24, 32, 40]).collect();
        let ticks = |minor| by_name(&named, minor, (1, 2)).map(|places| places.ticks_per_second);
        assert_eq!((ticks(21), ticks(22), ticks(27)), (Some(48), Some(64), Some(64)));
        let part: HashMap<&str, u64> = VARIABLES.into_iter().take(4).map(|name| (name, 8)).collect();
        assert_eq!(by_name(&part, 26, (1, 2)), None);
    }
}
