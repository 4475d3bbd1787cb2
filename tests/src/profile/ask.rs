//! Questions to a profile: totals, flat and cumulative values by function, stacks, labels, and the numbers that its comments carry.

use super::{Label, Mapping, Profile, Sample};
use anyhow::{Context, Result, bail, ensure};
use std::collections::{BTreeMap, BTreeSet};

/// What a frame without a name is called in these questions.
pub const UNNAMED: &str = "?";

/// The conservation sum, as a comment of the profile states it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Balance {
    /// Ticks by the kernel's own clock, or calls that were probed.
    pub ticks: i64,
    /// Ticks in the idle task.
    pub idle: i64,
    /// Ticks that were not asked for.
    pub filtered: i64,
    /// Ticks in the profile.
    pub samples: i64,
    /// Ticks that were lost, all kinds together.
    pub lost: i64,
    /// What is left over.
    pub difference: i64,
}

impl Profile {
    /// The sum of a column.
    pub fn total(&self, column: usize) -> i64 {
        self.samples.iter().map(|sample| sample.values[column]).sum()
    }

    /// How the walks of user stacks ended, by the comments: stacks by words.
    ///
    /// # Errors
    /// A comment that cannot be read.
    pub fn endings(&self) -> Result<BTreeMap<String, i64>> {
        let mut endings = BTreeMap::new();
        for ending in self.comments.iter().filter_map(|comment| comment.strip_prefix("stacks ended: ")) {
            let (words, count) = ending.rsplit_once(' ').with_context(|| format!("an ending without a number: {ending}"))?;
            endings.insert(words.to_owned(), count.parse()?);
        }
        Ok(endings)
    }

    /// The share of user stacks that were walked to their root.
    ///
    /// # Errors
    /// A comment that cannot be read, or no user stack at all.
    pub fn rooted(&self) -> Result<f64> {
        let endings = self.endings()?;
        let all: i64 = endings.iter().filter(|(words, _)| *words != "no user stack").map(|(_, count)| count).sum();
        ensure!(all > 0, "no user stack: {endings:?}");
        Ok(endings.get("root reached").copied().unwrap_or(0) as f64 / all as f64)
    }

    /// The names of a sample's frames, leaf first, inlined functions included.
    pub fn names<'a>(&'a self, sample: &Sample) -> Vec<&'a str> {
        let mut names = Vec::new();
        for location in &sample.locations {
            let lines = &self.locations[*location].lines;
            names.extend(lines.iter().map(|(function, _)| self.functions[*function].name.as_str()));
            if lines.is_empty() {
                names.push(UNNAMED);
            }
        }
        names
    }

    /// The values of the first column by the function on top of the stack.
    pub fn flat(&self) -> BTreeMap<String, i64> {
        let mut flat = BTreeMap::new();
        for sample in &self.samples {
            let leaf = self.names(sample).first().map_or(UNNAMED.to_owned(), |name| (*name).to_owned());
            *flat.entry(leaf).or_default() += sample.values[0];
        }
        flat
    }

    /// The values of the first column by every function that is on the stack, each once a sample.
    pub fn cumulative(&self) -> BTreeMap<String, i64> {
        let mut cumulative = BTreeMap::new();
        for sample in &self.samples {
            for name in self.names(sample).into_iter().collect::<BTreeSet<_>>() {
                *cumulative.entry(name.to_owned()).or_default() += sample.values[0];
            }
        }
        cumulative
    }

    /// The samples whose label has this text or number.
    pub fn labelled(&self, key: &str, value: &str) -> Self {
        self.only(|sample| sample.label(key).is_some_and(|label| label.shown() == value))
    }

    /// The samples that were taken of a process: all but the frame that stands for lost ones.
    pub fn taken(&self) -> Self {
        self.only(|sample| sample.label("pid").is_some())
    }

    /// The samples for which something holds.
    pub fn only(&self, mut holds: impl FnMut(&Sample) -> bool) -> Self {
        let samples = self.samples.iter().filter(|sample| holds(sample)).cloned().collect();
        Self { samples, ..self.clone() }
    }

    /// The values of a label over all samples, as text, with their sums in the first column; samples without it under the empty text.
    pub fn label_values(&self, key: &str) -> BTreeMap<String, i64> {
        let mut values = BTreeMap::new();
        for sample in &self.samples {
            let value = sample.label(key).map(Label::shown).unwrap_or_default();
            *values.entry(value).or_default() += sample.values[0];
        }
        values
    }

    /// The mapping of a sample's leaf.
    pub fn leaf_mapping(&self, sample: &Sample) -> Option<&Mapping> {
        let leaf = self.locations.get(*sample.locations.first()?)?;
        Some(&self.mappings[leaf.mapping?])
    }

    /// The files that a sample's frames are in, leaf first; frames without a mapping are left out.
    pub fn files<'a>(&'a self, sample: &Sample) -> Vec<&'a str> {
        let mappings = sample.locations.iter().filter_map(|location| self.locations[*location].mapping);
        mappings.map(|mapping| self.mappings[mapping].filename.as_str()).collect()
    }

    /// The comment that begins with `beginning`, without it.
    pub fn comment(&self, beginning: &str) -> Option<&str> {
        self.comments.iter().find_map(|comment| comment.strip_prefix(beginning)).map(str::trim)
    }

    /// The conservation sum that the profile states: `balance: EVENTS T = idle I + filtered F + samples S + lost L (difference D)`,
    /// where EVENTS is what the kind calls its events: ticks, calls, mappings.
    ///
    /// # Errors
    /// There is no such comment, or it does not add up by itself.
    pub fn balance(&self) -> Result<Balance> {
        let text = self.comment("balance:").with_context(|| format!("no comment `balance:` in {:#?}", self.comments))?;
        let number = |word: &str| -> Result<i64> {
            let words: Vec<&str> =
                text.split(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | ',')).filter(|word| !word.is_empty()).collect();
            let at = words.iter().position(|other| *other == word).with_context(|| format!("`{text}` has no word `{word}`"))?;
            words.get(at + 1).and_then(|word| word.parse().ok()).with_context(|| format!("`{text}` has no number behind `{word}`"))
        };
        let balance = Balance {
            ticks: number(text.split_whitespace().next().unwrap_or_default())?,
            idle: number("idle")?,
            filtered: number("filtered")?,
            samples: number("samples")?,
            lost: number("lost")?,
            difference: number("difference")?,
        };
        let sum = balance.idle + balance.filtered + balance.samples + balance.lost + balance.difference;
        ensure!(balance.ticks == sum, "the balance does not add up: {text}");
        Ok(balance)
    }

    /// Losses that are the profiler's own doing: all but ticks that never reached it. Those are the machine's: a virtual CPU that its host does not run
    /// gets its ticks late and merged into one, in any profiler.
    ///
    /// # Errors
    /// As [`Self::losses`].
    pub fn own_losses(&self) -> Result<BTreeMap<String, i64>> {
        let mut losses = self.losses()?;
        losses.remove("program not run");
        Ok(losses)
    }

    /// The losses that the profile states, by kind: a comment `lost: KIND N` each.
    ///
    /// # Errors
    /// Such a comment does not end in a number.
    pub fn losses(&self) -> Result<BTreeMap<String, i64>> {
        let mut losses = BTreeMap::new();
        for comment in self.comments.iter().filter_map(|comment| comment.strip_prefix("lost:")) {
            let Some((kind, count)) = comment.trim().rsplit_once(' ') else { bail!("`lost:{comment}` has no number") };
            losses.insert(kind.trim_end_matches(':').to_owned(), count.parse().with_context(|| format!("in `lost:{comment}`"))?);
        }
        Ok(losses)
    }
}

impl Sample {
    /// A label.
    pub fn label(&self, key: &str) -> Option<&Label> {
        self.labels.iter().find(|label| label.key == key)
    }
}

impl Label {
    /// Its text, or its number as text.
    pub fn shown(&self) -> String {
        if self.text.is_empty() { self.number.to_string() } else { self.text.clone() }
    }
}
