//! Programs that contend and measure themselves what they wait, recorded with `-e block,mutex`.

use crate::profile::Profile;
use crate::run::{Outcome, Profiler};
use crate::subject::Subject;
use anyhow::{Context as _, Result, ensure};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

/// What sums may differ by.
pub const SHARE: f64 = 0.02;
/// What the share of a holder may differ by from its share of the time in which the lock was held: who lets it go rests for a moment, and does not wait.
pub const HOLDER: f64 = 0.05;

/// What a profile of releases says that nobody was charged with at locks, ns; 0: nothing.
///
/// # Errors
/// It says it in another way.
pub fn not_charged(profile: &Profile) -> Result<f64> {
    let Some(line) = profile.comment("not charged: ") else { return Ok(0.0) };
    let at_locks = line.split_once(" s at locks").map_or("", |(head, _)| head);
    let Some((_, seconds)) = at_locks.rsplit_once(" waits of ") else { return Ok(0.0) };
    Ok(seconds.parse::<f64>().with_context(|| line.to_owned())? * 1e9)
}

/// What was recorded of a program that prints what it has waited, and by itself what of it those waited that only want the lock, and how long it was held.
pub struct Seen {
    /// What it has waited, ns.
    pub truth: f64,
    /// What of it those did that never hold the lock.
    pub wanted: Option<f64>,
    /// What those waited that gave up, by a time of their own, ns; not in the first.
    pub gave_up: Option<f64>,
    /// How long each of three held it.
    pub held: Option<[f64; 3]>,
    /// Its waits, by who waited.
    pub block: Profile,
    /// The same by who ended them.
    pub mutex: Profile,
}

impl Seen {
    /// The waits below this function are what the program has measured.
    ///
    /// # Errors
    /// They are not.
    pub fn waited(&self, function: &str) -> Result<()> {
        let waited = through(&self.block, function);
        ensure!((waited / self.truth - 1.0).abs() < SHARE, "block: {waited} of {}", self.truth);
        Ok(())
    }

    /// All of it was charged to locks.
    ///
    /// # Errors
    /// It was not.
    pub fn charged(&self) -> Result<f64> {
        let charged = self.mutex.total(1) as f64;
        ensure!((charged / self.truth - 1.0).abs() < SHARE, "mutex: {charged} of {}", self.truth);
        Ok(charged)
    }

    /// Each holder is charged in proportion to how long it held the lock.
    ///
    /// # Errors
    /// It is not.
    pub fn charged_in_shares(&self) -> Result<()> {
        let charged = self.charged()?;
        let held = self.held.context("it does not say how long the lock was held")?;
        for (holder, held_ns) in ["holds_one", "holds_three", "holds_six"].into_iter().zip(held) {
            let share = held_ns / held.iter().sum::<f64>();
            let its = through(&self.mutex, holder);
            ensure!((its / charged - share).abs() < HOLDER, "mutex: {holder} has {its} of {charged}, not {share}");
        }
        Ok(())
    }

    /// Nothing of it is a lock.
    ///
    /// # Errors
    /// Some is.
    pub fn is_no_lock(&self) -> Result<()> {
        ensure!(self.mutex.samples.is_empty(), "mutex: {:?}", self.mutex.cumulative());
        Ok(())
    }
}

/// What was waited on stacks that have a function, ns.
pub fn through(profile: &Profile, function: &str) -> f64 {
    profile.only(|sample| profile.names(sample).iter().any(|name| name.contains(function))).total(1) as f64
}

/// A profile of a run, of which nothing is missing.
///
/// # Errors
/// Something is, or there is none.
pub fn read(run: &Outcome, kind: &str) -> Result<Profile> {
    let profile = Profile::read(&run.folder.join(format!("{kind}.prof"))).with_context(|| format!("{kind}: {}", run.stderr))?;
    ensure!(profile.balance()?.difference == 0 && profile.own_losses()?.is_empty(), "{kind}: {:#?}", profile.comments);
    Ok(profile)
}

/// Records both kinds while a program contends that is told to begin, and does something to it meanwhile.
///
/// # Errors
/// It could not be recorded, or does not say what it waited.
pub fn record_meanwhile(program: &Path, words: &[&str], meanwhile: impl FnOnce(&Subject) -> Result<()>) -> Result<Seen> {
    record_as(program, words, &["-e", "block,mutex"], meanwhile)
}

/// The same with options of our own.
///
/// # Errors
/// As there.
pub fn record_as(program: &Path, words: &[&str], options: &[&str], meanwhile: impl FnOnce(&Subject) -> Result<()>) -> Result<Seen> {
    let mut command = Command::new(program);
    command.args(words);
    let (mut subject, mut stdin) = Subject::start_told(command)?;
    let mut recording = Profiler::record()?.pid(subject.pid()).args(options.iter().copied()).start()?;
    recording.wait_until_recording()?;
    stdin.write_all(b"go\n")?;
    meanwhile(&subject)?;
    let line = subject.wait_for_line("waited")?;
    let run = recording.interrupt()?.success()?;
    let [truth, wanted, gave_up, held] = ["waited", "wanted", "gave_up", "held"].map(|word| numbers(&line, word));
    let ((wanted, gave_up), held) = ((wanted.first().copied(), gave_up.first().copied()), <[f64; 3]>::try_from(held).ok());
    Ok(Seen {
        truth: *truth.first().context("what it waited")?,
        wanted,
        gave_up,
        held,
        block: read(&run, "block")?,
        mutex: read(&run, "mutex")?,
    })
}

/// The numbers behind a word of a line.
pub fn numbers(line: &str, word: &str) -> Vec<f64> {
    line.split_whitespace().skip_while(|other| *other != word).skip(1).map_while(|number| number.parse().ok()).collect()
}

/// The same of one that is left alone.
///
/// # Errors
/// As there.
pub fn record(program: &Path, words: &[&str]) -> Result<Seen> {
    record_meanwhile(program, words, |_| Ok(()))
}
