//! One look of a snapshot: the threads, what their stacks hold, the walk of that, and the look that says which of it belongs together.

use super::dumping::Found;
use super::recorder::RecordError;
use super::snapshot::{NO_USER_STACK, Snapshot, look_failed, raw};
use crate::bpf::SeenThread;
use crate::memory::Range;
use crate::model::process::Pid;
use crate::model::stack::UserStack;
use crate::snapshot::{BYTES_MAX, Look, Missing, Taken, Wanted, beyond, is_one_moment, unread, wanted_of};
use profiler_common::ended::Ended;
use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

/// By which a deeper stack is read in another round.
const DEEPER: u32 = 64;
/// Stacks that are followed to other memory at once: each may have a megabyte of it.
const FEW: usize = 16;

/// A user stack as far as it could be walked.
struct Walked {
    user: UserStack,
    /// So many bytes of it would lead further.
    more: Option<u32>,
    /// More of where it begins may be had.
    is_part: bool,
}

impl Snapshot {
    fn with(&mut self, deadline: Instant) -> Look<'_> {
        Look { capture: &mut self.capture, memory: &mut self.memory, pid: Pid(self.options.pid), deadline }
    }

    /// Looks at all threads, or at those with so many bytes of their stacks; those that want another round come back.
    pub(super) fn look(
        &mut self,
        wanted: Wanted<'_>,
        found: &mut BTreeMap<u32, Found>,
        deadline: Instant,
    ) -> Result<BTreeMap<u32, u32>, RecordError> {
        let first = self.with(deadline).threads(wanted).map_err(look_failed)?;
        let mut walked = HashMap::new();
        let mut rest = first.as_slice();
        while !rest.is_empty() {
            let part = Look::part(rest, wanted);
            rest = &rest[part.len()..];
            let users = self.walk_part(part, (wanted, deadline))?;
            walked.extend(part.iter().zip(users).map(|(seen, user)| (seen.record.tid, (&seen.record, user))));
        }
        let mut again = BTreeMap::new();
        for seen in self.with(deadline).threads(wanted).map_err(look_failed)? {
            let tid = seen.record.tid;
            // A thread's number may be that of another process's thread meanwhile.
            if found.get(&tid).is_some_and(|known| known.record.process != seen.record.process) {
                continue;
            }
            let user = match walked.remove(&tid) {
                Some((before, user)) if is_one_moment(before, &seen.record) => user,
                _ => unread(&seen.record).map(|taken| Walked { user: taken.stack, more: None, is_part: false }),
            };
            let more = match &user {
                Err(Missing::Moved) => wanted_of(wanted, tid),
                user => user.as_ref().ok().and_then(|walked| walked.more),
            };
            again.extend(more.map(|more| (tid, more)));
            self.keep(&seen, user, found);
        }
        Ok(again)
    }

    /// Reads and walks the stacks of threads that were looked at.
    fn walk_part(
        &mut self,
        part: &[SeenThread],
        (wanted, deadline): (Wanted<'_>, Instant),
    ) -> Result<Vec<Result<Walked, Missing>>, RecordError> {
        let taken = self.with(deadline).stacks(part, wanted).map_err(look_failed)?;
        let (mut walked, mut open) = (Vec::with_capacity(part.len()), Vec::new());
        for (at, (seen, taken)) in part.iter().zip(taken).enumerate() {
            let user = match taken {
                Ok(taken) => Ok(self.walk(seen, taken, (wanted, deadline))?),
                Err(why) => Err(why),
            };
            if user.as_ref().is_ok_and(|walked| walked.next().is_some()) {
                open.push(at);
            }
            walked.push(user);
        }
        for few in open.chunks(FEW) {
            self.walk_beyond(part, (few, &mut walked), (wanted, deadline))?;
        }
        Ok(walked)
    }

    /// Follows stacks to other memory, until each has come to its end.
    fn walk_beyond(
        &mut self,
        part: &[SeenThread],
        (few, walked): (&[usize], &mut [Result<Walked, Missing>]),
        (wanted, deadline): (Wanted<'_>, Instant),
    ) -> Result<(), RecordError> {
        loop {
            let next = |at: &usize| Some((*at, walked[*at].as_ref().ok()?.next()?));
            let open: Vec<(usize, Range)> = few.iter().filter_map(next).collect();
            if open.is_empty() {
                return Ok(());
            }
            let (ranges, mut read): (Vec<Range>, _) = (open.iter().map(|(_, range)| *range).collect(), Vec::new());
            self.with(deadline).read(&ranges, &mut read).map_err(look_failed)?;
            for ((at, range), read) in open.into_iter().zip(read) {
                let Ok(held) = &mut walked[at] else { continue };
                let (user, is_part) = (std::mem::replace(&mut held.user, NO_USER_STACK), held.is_part);
                // What cannot be read is not what is wanted.
                let stack = beyond::with(user, range, &read.unwrap_or_default());
                walked[at] = Ok(self.walk(&part[at], Taken { stack, is_part }, (wanted, deadline))?);
            }
        }
    }

    /// Walks what was read of a thread.
    fn walk(&mut self, seen: &SeenThread, taken: Taken, (wanted, deadline): (Wanted<'_>, Instant)) -> Result<Walked, RecordError> {
        let bytes = wanted_of(wanted, seen.record.tid).unwrap_or(0);
        let tally = raw(seen, Vec::new(), taken.stack);
        let met = self.meet(&tally.of);
        let sample = match self.finishing.finish((met, tally), &self.objects, &mut self.capture) {
            Some(sample) => Some(sample),
            // Its file is being parsed.
            None if Instant::now() < deadline => self.finishing.end(&self.objects, &mut self.capture)?.pop(),
            None => None,
        };
        let user = sample.map_or(NO_USER_STACK, |(_, tally)| tally.of.addresses.user.clone());
        let is_cut = match &user {
            UserStack::Walked { ended, .. } => *ended == Ended::NoTable,
            unfinished => beyond::is_deeper(unfinished, BYTES_MAX),
        };
        let more = (taken.is_part && is_cut).then(|| bytes.saturating_mul(DEEPER).min(BYTES_MAX));
        Ok(Walked { user, more, is_part: taken.is_part })
    }

    /// Keeps what was found of a thread.
    fn keep(&mut self, seen: &SeenThread, user: Result<Walked, Missing>, found: &mut BTreeMap<u32, Found>) {
        let (user, trouble) = match user {
            Ok(walked) => (beyond::settled(walked.user), None),
            Err(why) => (NO_USER_STACK, Some(why)),
        };
        let tally = raw(seen, seen.kernel.clone(), user);
        let met = self.meet(&tally.of);
        let stack = self.tables.place(&met, &tally, self.kernel);
        found.insert(seen.record.tid, Found { record: seen.record, stack, trouble });
    }
}

impl Walked {
    /// What is to be read for it to go on, unless the whole of it is to be read anew.
    fn next(&self) -> Option<Range> {
        if self.more.is_some() { None } else { beyond::wanted(&self.user) }
    }
}
