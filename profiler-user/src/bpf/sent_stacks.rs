//! The mirror of the kernel side's set of stacks that were sent: the same slots, so that what the kernel thinks we hold, we hold.

use crate::model::stack::{LastAddress, Manner, RawAddresses, UserStack};
use profiler_common::ended::Ended;
use profiler_common::limits::SENT_STACK_SLOTS;
use profiler_common::record::{FORM_UNFINISHED, FORM_WALKED, MoreHeader, StackHeader, UnfinishedAt};
use profiler_common::unwind::Registers;
use std::collections::VecDeque;
use std::sync::Arc;
use zerocopy::FromBytes as _;

/// Addresses held at most, over all stacks: what a hostile process with deep stacks can make us keep. Typical stacks need a tenth of it.
const ADDRESSES_MAX: usize = 1 << 20;

/// Stacks by slot.
#[derive(Debug)]
pub(super) struct SentStacks {
    slots: Vec<Option<Arc<RawAddresses>>>,
    /// Slots in the order in which they were filled, the oldest first; some may have been filled again since.
    filled: VecDeque<(u32, u64)>,
    addresses: usize,
}

impl SentStacks {
    /// An empty mirror.
    pub(super) fn new() -> Self {
        Self { slots: vec![None; SENT_STACK_SLOTS], filled: VecDeque::new(), addresses: 0 }
    }

    /// Takes in a stack record; None if it does not read as one.
    pub(super) fn insert(&mut self, bytes: &[u8]) -> Option<()> {
        let stack = decode(bytes)?;
        let slot = (stack.hash as usize) & (SENT_STACK_SLOTS - 1);
        self.addresses += length(&stack);
        self.filled.push_back((slot as u32, stack.hash));
        if let Some(old) = self.slots[slot].replace(Arc::new(stack)) {
            self.addresses -= length(&old);
        }
        while self.addresses > ADDRESSES_MAX || self.filled.len() > 4 * SENT_STACK_SLOTS {
            let Some((slot, hash)) = self.filled.pop_front() else { break };
            if self.slots[slot as usize].as_ref().is_some_and(|stack| stack.hash == hash && self.addresses > ADDRESSES_MAX) {
                self.addresses -= self.slots[slot as usize].take().map_or(0, |old| length(&old));
            }
        }
        Some(())
    }

    /// Takes in more bytes of an unfinished stack.
    pub(super) fn extend(&mut self, bytes: &[u8]) -> Option<()> {
        let (header, page) = MoreHeader::read_from_prefix(bytes).ok()?;
        let slot = (header.stack_hash as usize) & (SENT_STACK_SLOTS - 1);
        let stack = self.slots[slot].as_mut().filter(|stack| stack.hash == header.stack_hash)?;
        // No sample names it before its last page.
        let UserStack::Unfinished { words: held, .. } = &mut Arc::get_mut(stack)?.user else { return None };
        held.extend(words(page));
        self.addresses += page.len() / 8;
        Some(())
    }

    /// The stack of a hash, if it is still held. An unfinished one belongs to one sample alone, and is held no longer, unless another one follows that shares it.
    pub(super) fn find(&mut self, hash: u64, is_shared: bool) -> Option<Arc<RawAddresses>> {
        let slot = &mut self.slots[(hash as usize) & (SENT_STACK_SLOTS - 1)];
        let stack = slot.as_ref().filter(|stack| stack.hash == hash)?;
        if is_shared || matches!(stack.user, UserStack::Walked { .. }) {
            return Some(Arc::clone(stack));
        }
        self.addresses -= length(stack);
        slot.take()
    }
}

fn length(stack: &RawAddresses) -> usize {
    let user = match &stack.user {
        UserStack::Walked { addresses, .. } => addresses.len(),
        UserStack::Unfinished { addresses, words, .. } => addresses.len() + words.len(),
    };
    stack.kernel.len() + user
}

/// A stack record to a stack; every length is checked against the bytes that are there.
fn decode(bytes: &[u8]) -> Option<RawAddresses> {
    let (header, rest) = StackHeader::read_from_prefix(bytes).ok()?;
    let (kernel, user) = (usize::from(header.kernel_frames), usize::from(header.user_frames));
    if rest.len() < (kernel + user) * 8 || header.stack_hash == 0 {
        return None;
    }
    let ended = Ended::try_from(header.ended).ok()?;
    let (addresses, rest) = rest.split_at((kernel + user) * 8);
    let mut addresses = words(addresses);
    let kernel = addresses.by_ref().take(kernel).collect();
    let addresses = addresses.collect();
    let user = match header.form {
        FORM_WALKED => UserStack::Walked { addresses, ended },
        FORM_UNFINISHED => unfinished(addresses, rest)?,
        _ => return None,
    };
    Some(RawAddresses { hash: header.stack_hash, kernel, list: header.list, user })
}

fn unfinished(addresses: Vec<u64>, rest: &[u8]) -> Option<UserStack> {
    let (at, stack) = UnfinishedAt::read_from_prefix(rest).ok()?;
    let stack = stack.get(..at.stack_bytes as usize)?;
    let registers = Registers { ip: at.ip, sp: at.sp, fp: at.fp, bx: at.bx };
    let last = if at.is_exact != 0 { LastAddress::Interrupted } else { LastAddress::ReturnedTo };
    let (words, leaf) = (words(stack).collect(), (addresses.len() == 1).then_some(at.leaf));
    Some(UserStack::Unfinished { addresses, registers, at: last, leaf, words, beyond: None, manner: Manner::default() })
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    bytes.chunks_exact(8).map(|word| u64::from_ne_bytes([word[0], word[1], word[2], word[3], word[4], word[5], word[6], word[7]]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zerocopy::{FromZeros as _, IntoBytes as _};

    fn record(hash: u64, frames: &[u64]) -> Vec<u8> {
        let header = StackHeader {
            kind: 2,
            kernel_frames: 1,
            user_frames: frames.len() as u16 - 1,
            stack_hash: hash,
            ended: 0,
            form: 0,
            reserved: 0,
            list: 0,
        };
        let mut bytes = header.as_bytes().to_vec();
        frames.iter().for_each(|frame| bytes.extend(frame.to_ne_bytes()));
        bytes
    }

    #[test]
    fn a_slot_holds_the_stack_that_was_sent_last() {
        let mut sent = SentStacks::new();
        let (a, b) = (5, 5 + SENT_STACK_SLOTS as u64);
        sent.insert(&record(a, &[1, 2, 3])).expect("whole");
        assert_eq!(sent.find(a, false).expect("held").kernel, [1]);
        sent.insert(&record(b, &[4, 5])).expect("whole");
        assert!(sent.find(a, false).is_none());
        assert_eq!(sent.find(b, false).expect("held").user, UserStack::Walked { addresses: vec![5], ended: Ended::Root });
    }

    #[test]
    fn an_unfinished_stack_is_held_for_those_that_share_it() {
        let mut sent = SentStacks::new();
        let mut bytes = record(5, &[1]);
        let at = std::mem::offset_of!(StackHeader, form);
        bytes[at] = FORM_UNFINISHED;
        bytes.extend(UnfinishedAt::new_zeroed().as_bytes());
        bytes.extend([0; 64]);
        sent.insert(&bytes).expect("whole");
        let shared = sent.find(5, true).expect("held");
        assert!(matches!(shared.user, UserStack::Unfinished { .. }));
        assert_eq!(sent.find(5, false), Some(shared));
        assert_eq!((sent.find(5, false), sent.addresses), (None, 0));
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut sent = SentStacks::new();
        let deep = vec![7; 1_000];
        for hash in 1..=2_000 {
            sent.insert(&record(hash, &deep)).expect("whole");
            assert!(sent.addresses <= ADDRESSES_MAX);
        }
        assert!(sent.find(2_000, false).is_some() && sent.find(1, false).is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }
}
