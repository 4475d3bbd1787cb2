//! The places of Go's profiles of waits on the wire: the request and the answer, each with the number that says what it is.

use super::wire::{In, Malformed, Out};
use crate::model::go_waits::{GoWaitList, GoWaitPlaces, GoWaits};

impl Out {
    pub(super) fn go_waits(&mut self, answer: &GoWaits) {
        self.u8(9);
        match answer {
            Ok(GoWaitPlaces { block, mutex, ticks_per_second, minor, text }) => {
                self.u8(0);
                for number in [block.buckets, block.rate, mutex.buckets, mutex.rate, *ticks_per_second, text.0, text.1] {
                    self.u64(number);
                }
                self.u32(*minor as usize);
            }
            Err(why) => {
                self.u8(1);
                self.no_go_heap(why);
            }
        }
    }
}

impl In<'_> {
    pub(super) fn go_waits(&mut self) -> Result<GoWaits, Malformed> {
        Ok(match self.u8()? {
            0 => Ok(GoWaitPlaces {
                block: GoWaitList { buckets: self.u64()?, rate: self.u64()? },
                mutex: GoWaitList { buckets: self.u64()?, rate: self.u64()? },
                ticks_per_second: self.u64()?,
                text: (self.u64()?, self.u64()?),
                minor: self.u32()?,
            }),
            1 => Err(self.no_go_heap()?),
            _ => return Err(Malformed("an unknown answer about Go's profiles of waits")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::Answer;
    use super::*;
    use crate::model::go_heap::{NoGoHeap, Variable};

    #[test]
    fn what_is_said_of_profiles_of_waits_reads_back() {
        let list = |buckets, rate| GoWaitList { buckets, rate };
        let places = GoWaitPlaces { block: list(1, 2), mutex: list(3, 4), ticks_per_second: 5, minor: 21, text: (6, u64::MAX) };
        let failures = [Variable::Waits, Variable::WaitRate, Variable::Ticks].map(NoGoHeap::NotFound);
        for answer in [Ok(places), Err(NoGoHeap::WaitsLeftOut)].into_iter().chain(failures.map(Err)) {
            let answer = Answer::GoWaits(answer);
            let bytes = answer.encode();
            assert_eq!(Answer::decode(&bytes), Ok(answer));
            assert!((0..bytes.len()).all(|end| Answer::decode(&bytes[..end]).is_err()));
        }
    }
}
