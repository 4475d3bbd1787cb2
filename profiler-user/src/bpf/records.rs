//! Records of the ring: stacks are kept, what names one is put in order with it.

use super::order::{Drained, Order};
use super::sent_stacks::SentStacks;
use crate::model::event::MonotonicNs;
use crate::model::loss::Loss;
use crate::model::process::Tid;
use crate::model::stack::{RawStack, Tally};
use crate::model::window::CLASS_LESS;
use profiler_common::record::{RecordKind, SampleRecord, TallyRecord, WEIGHT_LESS};
use profiler_common::source::Source;
use zerocopy::FromBytes as _;

/// Takes one record over.
///
/// # Errors
/// What is lost with it, and of which source.
pub(super) fn take_record(bytes: &[u8], sent: &mut SentStacks, order: &mut Order) -> Result<(), (Source, Loss)> {
    // Whose it is cannot be told: nobody's sample may be missing, or anybody's.
    let malformed = (Source::TARGET, Loss::Malformed);
    let kind = bytes.first_chunk::<2>().and_then(|word| RecordKind::try_from(u16::from_ne_bytes(*word)).ok()).ok_or(malformed)?;
    match kind {
        RecordKind::Stack => {
            // Its samples will be missed, and counted, one by one.
            let _ = sent.insert(bytes);
        }
        RecordKind::More => {
            // Without it the walk ends where the bytes do, and says so.
            let _ = sent.extend(bytes);
        }
        RecordKind::Sample => order.push(Drained::Stack(sample(bytes, sent)?)),
        // Without its stack what is counted under it has no name, and is counted as lost at the end.
        RecordKind::Tally => {
            if let Some(tally) = named(bytes, sent)? {
                order.push(Drained::Stack(tally));
            }
        }
    }
    Ok(())
}

fn sample(bytes: &[u8], sent: &mut SentStacks) -> Result<Tally<RawStack>, (Source, Loss)> {
    let (record, _) = SampleRecord::read_from_prefix(bytes).map_err(|_| (Source::TARGET, Loss::Malformed))?;
    let source = Source::try_from(record.source).map_err(|_| (Source::TARGET, Loss::Malformed))?;
    let addresses = sent.find(record.stack_hash, false).ok_or((source, Loss::StackMissing))?;
    let of = RawStack { process: record.process, tid: Tid(record.tid), time: MonotonicNs(record.time_ns), addresses };
    let (weight, class) = (record.weight & !WEIGHT_LESS, if record.weight & WEIGHT_LESS == 0 { 0 } else { CLASS_LESS });
    Ok(Tally { of, events: 1, weight, source, class, counted_under: None })
}

fn named(bytes: &[u8], sent: &mut SentStacks) -> Result<Option<Tally<RawStack>>, (Source, Loss)> {
    let (record, _) = TallyRecord::read_from_prefix(bytes).map_err(|_| (Source::TARGET, Loss::Malformed))?;
    let source = Source::try_from(record.key.source()).map_err(|_| (Source::TARGET, Loss::Malformed))?;
    Ok(sent.find(record.key.stack_hash, record.is_shared != 0).map(|addresses| {
        let of = RawStack { process: record.process, tid: Tid(record.tid), time: MonotonicNs(record.time_ns), addresses };
        Tally { of, events: 0, weight: 0, source, class: 0, counted_under: Some(record.key) }
    }))
}
