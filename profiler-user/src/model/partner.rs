//! The other side of a wait: who ended it where it is shown by who waited, and who waited where it is shown by who ended it.

use super::process::ProcessId;
use super::stack::StackId;
use foldhash::HashMap;

/// The other side of a wait.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Partner {
    /// Whose it is.
    pub process: ProcessId,
    /// The thread, if threads are told apart.
    pub thread: Option<u32>,
    /// The stack.
    pub stack: StackId,
}

/// All of them, by their numbers from 1.
#[derive(Clone, Debug, Default)]
pub struct Partners {
    list: Vec<Partner>,
    numbers: HashMap<Partner, u64>,
    by_bits: HashMap<u64, u64>,
}

impl Partners {
    /// Notes one; its number.
    pub fn add(&mut self, partner: Partner) -> u64 {
        let list = &mut self.list;
        *self.numbers.entry(partner).or_insert_with(|| {
            list.push(partner);
            list.len() as u64
        })
    }

    /// Notes one that classes name by these bits.
    pub fn add_as(&mut self, bits: u64, partner: Partner) {
        let number = self.add(partner);
        self.by_bits.insert(bits, number);
    }

    /// The number of one, and it itself, by its bits in a class.
    pub fn of_bits(&self, bits: u64) -> Option<(u64, Partner)> {
        let number = *self.by_bits.get(&bits)?;
        Some((number, self.get(number)?))
    }

    /// The number of one that was noted; else 0.
    pub fn number(&self, partner: &Partner) -> u64 {
        self.numbers.get(partner).copied().unwrap_or(0)
    }

    /// One by its number.
    pub fn get(&self, number: u64) -> Option<Partner> {
        self.list.get(usize::try_from(number).ok()?.checked_sub(1)?).copied()
    }
}
