//! The places of Go's memory profile on the wire: a number that says which answer it is, and what belongs to it.

use super::wire::{In, Malformed, Out};
use crate::model::go_heap::{GoHeap, GoHeapPlaces, GoRecord, NoGoHeap, VERSION_MAX_BYTES, Variable};

impl Out {
    pub(super) fn go_heap(&mut self, answer: &GoHeap) {
        match answer {
            Ok(places) => {
                self.u8(0);
                for number in [places.buckets, places.cycle, places.lock, places.rate, places.text.0, places.text.1] {
                    self.u64(number);
                }
                self.u8(u8::from(places.record == GoRecord::Objects));
            }
            Err(why) => self.no_go_heap(why),
        }
    }

    pub(super) fn no_go_heap(&mut self, why: &NoGoHeap) {
        match why {
            NoGoHeap::NotGo => self.u8(1),
            NoGoHeap::LeftOut => self.u8(2),
            NoGoHeap::UnknownVersion(version) => {
                let version = &version.as_bytes()[..version.len().min(VERSION_MAX_BYTES)];
                self.u8(3);
                self.u32(version.len());
                self.0.extend(version);
            }
            NoGoHeap::NotFound(variable) => {
                self.u8(4);
                self.u8(match variable {
                    Variable::Functions => 0,
                    Variable::Buckets => 1,
                    Variable::Cycle => 2,
                    Variable::Lock => 3,
                    Variable::Rate => 4,
                    Variable::Goroutines => 5,
                    Variable::Waits => 6,
                    Variable::WaitRate => 7,
                    Variable::Ticks => 8,
                });
            }
            NoGoHeap::WaitsLeftOut => self.u8(5),
        }
    }
}

impl In<'_> {
    pub(super) fn go_heap(&mut self) -> Result<GoHeap, Malformed> {
        Ok(match self.u8()? {
            0 => {
                let (buckets, cycle, lock, rate) = (self.u64()?, self.u64()?, self.u64()?, self.u64()?);
                let text = (self.u64()?, self.u64()?);
                let record = if self.flag()? { GoRecord::Objects } else { GoRecord::ObjectsAndBytes };
                if text.0 >= text.1 {
                    return Err(Malformed("code that ends before it begins"));
                }
                Ok(GoHeapPlaces { buckets, cycle, lock, rate, record, text })
            }
            number => Err(self.numbered(number)?),
        })
    }

    pub(super) fn no_go_heap(&mut self) -> Result<NoGoHeap, Malformed> {
        let number = self.u8()?;
        self.numbered(number)
    }

    fn numbered(&mut self, number: u8) -> Result<NoGoHeap, Malformed> {
        Ok(match number {
            1 => NoGoHeap::NotGo,
            2 => NoGoHeap::LeftOut,
            3 => {
                let length = self.count(VERSION_MAX_BYTES)?;
                NoGoHeap::UnknownVersion(String::from_utf8_lossy(self.take(length)?).into_owned())
            }
            4 => NoGoHeap::NotFound(match self.u8()? {
                0 => Variable::Functions,
                1 => Variable::Buckets,
                2 => Variable::Cycle,
                3 => Variable::Lock,
                4 => Variable::Rate,
                5 => Variable::Goroutines,
                6 => Variable::Waits,
                7 => Variable::WaitRate,
                8 => Variable::Ticks,
                _ => return Err(Malformed("an unknown variable")),
            }),
            5 => NoGoHeap::WaitsLeftOut,
            _ => return Err(Malformed("an unknown answer about Go's memory profile")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::Answer;
    use super::*;

    #[test]
    fn what_is_said_of_a_files_memory_profile_reads_back() {
        let places = |record| GoHeapPlaces { buckets: 8, cycle: u64::MAX, lock: 16, rate: 24, record, text: (1, 9) };
        let variables = [Variable::Functions, Variable::Buckets, Variable::Cycle, Variable::Lock, Variable::Rate];
        let failures = [NoGoHeap::NotGo, NoGoHeap::LeftOut, NoGoHeap::UnknownVersion("go1.99 X:no".into())];
        let answers = [Ok(places(GoRecord::Objects)), Ok(places(GoRecord::ObjectsAndBytes))].into_iter();
        for answer in answers.chain(failures.map(Err)).chain(variables.map(|variable| Err(NoGoHeap::NotFound(variable)))) {
            let answer = Answer::GoHeap(answer);
            let bytes = answer.encode();
            assert_eq!(Answer::decode(&bytes), Ok(answer));
            for end in 0..bytes.len() {
                assert!(Answer::decode(&bytes[..end]).is_err());
            }
        }
        let backwards = GoHeapPlaces { text: (9, 9), ..places(GoRecord::Objects) };
        assert!(Answer::decode(&Answer::GoHeap(Ok(backwards)).encode()).is_err());
    }
}
