//! Waits that are not over when the recording is: their threads are walked where they stand, and counted up to that moment.
//!
//! ```text
//!   look (at once) ──► since when, registers, kernel stack      read ──► stack bytes      not come back since: they belong together
//! ```

use super::finishing::{Finishing, Sample};
use super::session::Session;
use super::waits::{no_user_part, raw};
use crate::bpf::{BpfError, Last, Sleeper};
use crate::config::{Config, Mode};
use crate::memory::{MemoryError, MemoryReader, RANGE_MAX_BYTES, Range};
use crate::model::process::Pid;
use crate::model::stack::{RawStack, Tally, UserStack};
use crate::snapshot::{beyond, unfinished};
use crate::unwind::by_frame_pointers;
use foldhash::HashMap;
use profiler_common::ended::Ended;
use profiler_common::snapshot::{ThreadRecord, USER_COMPAT, USER_NATIVE};
use profiler_common::tally::TallyKey;
use profiler_common::wait::CLASS_ONGOING;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes of a stack that are read: most are no deeper than the first, and who is gets another round.
const DEPTHS: [u32; 3] = [4 << 10, 64 << 10, RANGE_MAX_BYTES];
/// Ranges that are read at once.
const RANGES: usize = 256;
/// How long the helper may take for one question, of which a page that does not come takes all: as long as others have not been asked for, and then.
const IMPATIENCE: Duration = Duration::from_millis(20);
/// As above.
const PATIENCE: Duration = Duration::from_millis(100);
/// After so many of the first, whoever has such pages has them in many processes, and the others would get no turn.
const WORN_OUT: usize = 30;
const LEAST_PATIENCE: Duration = Duration::from_millis(4);
/// And for all of them: whose stack was not read by then has none.
const DEADLINE: Duration = Duration::from_secs(4);
/// For how long, of all, files may be parsed before the last stack is read.
const PARSING: Duration = Duration::from_secs(4);

const WENT_ON: &str = "[not walked: it went on]";
const UNREADABLE: &str = "[not walked: its stack cannot be read]";
const HANGS: &str = "[not walked: a page of its stack does not come]";
const NO_TIME: &str = "[not walked: no time left]";
const NO_HELPER: &str = "[not walked: memory cannot be read here]";
/// Threads that are walked at the end.
struct Walks {
    sleepers: Vec<Sleeper>,
    /// What each is counted under.
    keys: Vec<Vec<TallyKey>>,
    /// What was walked of those whose stack goes on.
    shallow: HashMap<usize, Sample>,
    /// Of those that wait for a table: whether more bytes may be had.
    is_part: HashMap<usize, bool>,
    memory: MemoryReader,
    /// Those whose stack did not come at once, to be asked for when all others have theirs.
    late: Vec<usize>,
    patience: Duration,
    /// Questions that took all of it.
    worn: usize,
    /// Each in a question of its own.
    is_each_alone: bool,
    deadline: Instant,
    parsed_for: Duration,
    stopped_ns: u64,
}

impl Walks {
    /// Which of them are in one question: of one process, as many as there is room for.
    fn questions(&self, mut wanted: Vec<usize>, bytes: u32) -> Vec<Vec<usize>> {
        let pid = |at: &usize| self.sleepers[*at].seen.record.process.tgid;
        wanted.sort_by_key(|at| (pid(at), *at));
        let most = if self.is_each_alone { 1 } else { ((RANGE_MAX_BYTES / bytes) as usize).clamp(1, RANGES) };
        wanted.chunk_by(|one, other| pid(one) == pid(other)).flat_map(|of_one| of_one.chunks(most)).map(<[usize]>::to_vec).collect()
    }

    /// The bytes of their stacks, or why there are none; None: one of them does not come, or not yet.
    fn read(&mut self, question: &[usize], bytes: u32) -> Option<Vec<Result<Vec<u8>, &'static str>>> {
        let all = |why| Some(question.iter().map(|_| Err(why)).collect());
        let records = || question.iter().map(|at| &self.sleepers[*at].seen.record);
        let ranges: Vec<Range> = records().map(|record| Range { address: record.walk_from().sp & !7, length: bytes }).collect();
        let Some(pid) = records().next().map(|record| Pid(record.process.tgid)) else { return Some(Vec::new()) };
        if Instant::now() >= self.deadline {
            return all(NO_TIME);
        }
        if self.memory.start().is_err() {
            return all(NO_HELPER);
        }
        match self.memory.read(pid, &ranges, Instant::now() + self.patience) {
            Ok(read) => Some(read.into_iter().map(|bytes| bytes.map_err(|_| UNREADABLE)).collect()),
            Err(MemoryError::Deadline) if self.patience < PATIENCE => {
                self.wear();
                None
            }
            Err(MemoryError::Deadline) => all(HANGS),
            Err(_) => all(NO_HELPER),
        }
    }

    /// Bytes of other memory that a stack leads to; none if they do not come at once.
    fn read_beyond(&mut self, at: usize, range: Range) -> Vec<u8> {
        let pid = Pid(self.sleepers[at].seen.record.process.tgid);
        if Instant::now() >= self.deadline || self.memory.start().is_err() {
            return Vec::new();
        }
        match self.memory.read(pid, &[range], Instant::now() + self.patience) {
            Ok(mut read) => read.pop().and_then(Result::ok).unwrap_or_default(),
            Err(error) => {
                if matches!(error, MemoryError::Deadline) && self.patience < PATIENCE {
                    self.wear();
                }
                Vec::new()
            }
        }
    }

    /// A page did not come.
    fn wear(&mut self) {
        self.worn += 1;
        if self.worn >= WORN_OUT {
            self.patience = LEAST_PATIENCE;
        }
    }

    fn raw(&self, at: usize, user: UserStack) -> Tally<RawStack> {
        let Sleeper { seen, .. } = &self.sleepers[at];
        raw(seen, user, (self.stopped_ns, self.keys[at].first().copied()))
    }
}

/// What is known of a user part without its memory; None: that is to be read.
fn without_memory(record: &ThreadRecord, mode: Mode) -> Option<UserStack> {
    match record.user {
        _ if mode == Mode::Kernel => Some(no_user_part()),
        USER_NATIVE => None,
        USER_COMPAT => Some(UserStack::Walked { addresses: vec![record.registers[0]], ended: Ended::Compat }),
        _ => Some(no_user_part()),
    }
}

/// The sample with its stack as far as it was walked.
fn settled((met, mut tally): Sample) -> Sample {
    let addresses = Arc::make_mut(&mut tally.of.addresses);
    addresses.user = beyond::settled(std::mem::replace(&mut addresses.user, no_user_part()));
    (met, tally)
}

impl Session {
    /// Counts waits that are not over. The sooner after the stop, the fewer threads have gone on and have no stack.
    pub(super) fn take_ongoing(&mut self, config: &Config) -> Result<(), BpfError> {
        let (mut sleepers, stopped_ns) = self.capture.sleepers()?;
        sleepers.retain(|sleeper| {
            let tgid = sleeper.seen.record.process.tgid;
            !self.own.contains(tgid) && !self.own.is_to_become_the_command(tgid)
        });
        // What they have mapped.
        self.drain(Last::No)?;
        let keys: Vec<Vec<TallyKey>> =
            sleepers.iter().enumerate().map(|(at, sleeper)| self.beside.add(at, sleeper, (stopped_ns, config))).collect();
        let wanted: Vec<usize> = (0..sleepers.len()).filter(|at| !keys[*at].is_empty()).collect();
        let mut walks = Walks {
            sleepers,
            keys,
            shallow: HashMap::default(),
            is_part: HashMap::default(),
            memory: MemoryReader::new(None),
            late: Vec::new(),
            patience: IMPATIENCE,
            worn: 0,
            is_each_alone: false,
            deadline: Instant::now() + DEADLINE,
            parsed_for: Duration::ZERO,
            stopped_ns,
        };
        let mut unread = Vec::new();
        for at in wanted {
            match without_memory(&walks.sleepers[at].seen.record, config.mode) {
                Some(user) => self.give(&mut walks, at, Ok(user)),
                None => unread.push(at),
            }
        }
        self.walk_rounds(&mut walks, unread)?;
        // One whose page does not come leaves the others of its process theirs.
        walks.is_each_alone = true;
        let late = std::mem::take(&mut walks.late);
        self.walk_rounds(&mut walks, late)?;
        walks.patience = PATIENCE;
        let late = std::mem::take(&mut walks.late);
        self.walk_rounds(&mut walks, late)
    }

    /// Walks them to their ends, as far as there are bytes.
    fn walk_rounds(&mut self, walks: &mut Walks, mut wanted: Vec<usize>) -> Result<(), BpfError> {
        for (round, bytes) in DEPTHS.into_iter().enumerate() {
            wanted = self.walk_round(walks, wanted, (bytes, round + 1 < DEPTHS.len()))?;
        }
        Ok(())
    }

    /// Reads and walks so many bytes of each stack; those whose stack goes on come back. `may_go_on`: there is another round.
    fn walk_round(&mut self, walks: &mut Walks, wanted: Vec<usize>, (bytes, may_go_on): (u32, bool)) -> Result<Vec<usize>, BpfError> {
        let mut deeper = Vec::new();
        for question in walks.questions(wanted, bytes) {
            match walks.read(&question, bytes) {
                Some(read) => deeper.extend(self.walk_read(walks, &question, read, (bytes, may_go_on))),
                // After the others: each takes some of the time.
                None => walks.late.extend(question),
            }
            // No more can wait for their files than there is room for.
            if walks.parsed_for < PARSING && self.finishing.as_ref().is_some_and(Finishing::is_crowded) {
                let began = Instant::now();
                deeper.extend(self.walk_waiting(walks)?);
                walks.parsed_for += began.elapsed();
                walks.deadline += began.elapsed();
            }
        }
        deeper.extend(self.walk_waiting(walks)?);
        Ok(deeper)
    }

    /// Walks those that wait for their files; those of which more is to be read come back.
    fn walk_waiting(&mut self, walks: &mut Walks) -> Result<Vec<usize>, BpfError> {
        let mut deeper = Vec::new();
        loop {
            let done = match &mut self.finishing {
                Some(finishing) => finishing.end(&self.objects, &mut self.capture)?,
                None => Vec::new(),
            };
            if done.is_empty() {
                return Ok(deeper);
            }
            // One that is walked on may want the next file.
            for sample in done {
                match sample.1.counted_under.filter(|key| key.class() & CLASS_ONGOING != 0) {
                    Some(key) => {
                        let at = key.stack_hash as usize - 1;
                        let is_part = walks.is_part.get(&at).copied().unwrap_or(false);
                        deeper.extend(self.take_walked(walks, at, (sample, is_part)));
                    }
                    None => self.count(&sample),
                }
            }
        }
    }

    /// Walks stacks that were read; those of which more is to be read come back.
    fn walk_read(
        &mut self,
        walks: &mut Walks,
        question: &[usize],
        read: Vec<Result<Vec<u8>, &'static str>>,
        (bytes, may_go_on): (u32, bool),
    ) -> Vec<usize> {
        let mut deeper = Vec::new();
        for (at, read) in question.iter().copied().zip(read) {
            if self.capture.has_gone_on(&walks.sleepers[at]) {
                self.give(walks, at, Err(WENT_ON));
                continue;
            }
            let read = match read {
                Ok(read) => read,
                Err(why) => {
                    self.give(walks, at, Err(why));
                    continue;
                }
            };
            let is_part = may_go_on && read.len() >= bytes as usize;
            walks.is_part.insert(at, is_part);
            let tally = walks.raw(at, unfinished(&walks.sleepers[at].seen.record, &read));
            let met = self.meet_sleeper(&tally.of);
            let sample = match &mut self.finishing {
                Some(finishing) => finishing.finish((met, tally), &self.objects, &mut self.capture),
                None => Some((met, walks.raw(at, by_frame_pointers(&tally.of.addresses.user)))),
            };
            if let Some(sample) = sample {
                deeper.extend(self.take_walked(walks, at, (sample, is_part)));
            }
        }
        deeper
    }

    /// Names what a stack was walked to, unless more of it is to be had. One that leads to other memory is walked on there.
    fn take_walked(&mut self, walks: &mut Walks, at: usize, (mut sample, is_part): (Sample, bool)) -> Option<usize> {
        loop {
            let user = &sample.1.of.addresses.user;
            let is_cut = match user {
                UserStack::Walked { ended, .. } => matches!(ended, Ended::NoTable | Ended::Unreadable),
                unfinished => beyond::is_deeper(unfinished, RANGE_MAX_BYTES),
            };
            if is_part && is_cut {
                walks.shallow.insert(at, settled(sample));
                return Some(at);
            }
            let Some(range) = beyond::wanted(user) else { break };
            let bytes = walks.read_beyond(at, range);
            if self.capture.has_gone_on(&walks.sleepers[at]) {
                break;
            }
            let tally = walks.raw(at, beyond::with(user.clone(), range, &bytes));
            sample = match &mut self.finishing {
                Some(finishing) => finishing.finish((sample.0, tally), &self.objects, &mut self.capture)?,
                None => (sample.0, walks.raw(at, by_frame_pointers(&tally.of.addresses.user))),
            };
        }
        self.name(settled(sample), &walks.keys[at], None);
        None
    }

    /// Names a stack that needs no more, or that is not to be had: what was walked of it in an earlier round stands for it then.
    fn give(&mut self, walks: &mut Walks, at: usize, user: Result<UserStack, &'static str>) {
        if user.is_err()
            && let Some(sample) = walks.shallow.remove(&at)
        {
            return self.name(sample, &walks.keys[at], None);
        }
        let reason = user.as_ref().err().copied();
        let tally = walks.raw(at, user.unwrap_or_else(|_| no_user_part()));
        let met = self.meet_sleeper(&tally.of);
        self.name((met, tally), &walks.keys[at], reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::SeenThread;
    use profiler_common::wait::Sleep;
    use zerocopy::FromZeros as _;

    #[test]
    fn a_question_is_of_one_process_and_not_longer_than_the_helper_answers() {
        let of = |tgid| {
            let mut seen = SeenThread { record: ThreadRecord::new_zeroed(), kernel: Vec::new() };
            seen.record.process.tgid = tgid;
            Sleeper { sleep: Sleep::default(), seen }
        };
        let mut walks = Walks {
            sleepers: (0..600).map(|at| of(at % 2)).collect(),
            keys: Vec::new(),
            shallow: HashMap::default(),
            is_part: HashMap::default(),
            memory: MemoryReader::new(None),
            late: Vec::new(),
            patience: IMPATIENCE,
            worn: 0,
            is_each_alone: false,
            deadline: Instant::now(),
            parsed_for: Duration::ZERO,
            stopped_ns: 0,
        };
        let lengths = |walks: &Walks, bytes| walks.questions((0..600).collect(), bytes).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(lengths(&walks, 4 << 10), [256, 44, 256, 44]);
        assert_eq!(lengths(&walks, RANGE_MAX_BYTES).len(), 600);
        assert!(walks.questions((0..600).collect(), 64 << 10).iter().all(|question| question.len() <= 16));
        walks.is_each_alone = true;
        assert_eq!(lengths(&walks, 4 << 10).len(), 600);
    }
}
