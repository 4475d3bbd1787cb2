//! The place of Go's goroutines on the wire.

use super::wire::{In, Malformed, Out};
use crate::model::goroutines::{GoroutinePlaces, Goroutines};

impl Out {
    pub(super) fn goroutines(&mut self, answer: &Goroutines) {
        match answer {
            Ok(GoroutinePlaces { all, minor, text }) => {
                self.u8(0);
                [*all, text.0, text.1].into_iter().for_each(|number| self.u64(number));
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
    pub(super) fn goroutines(&mut self) -> Result<Goroutines, Malformed> {
        Ok(match self.u8()? {
            0 => Ok(GoroutinePlaces { all: self.u64()?, text: (self.u64()?, self.u64()?), minor: self.u32()? }),
            1 => Err(self.no_go_heap()?),
            _ => return Err(Malformed("an unknown answer about goroutines")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::Answer;
    use super::*;
    use crate::model::go_heap::{NoGoHeap, Variable};

    #[test]
    fn what_is_said_of_goroutines_reads_back() {
        let places = GoroutinePlaces { all: 7, minor: 26, text: (1, u64::MAX) };
        for answer in [Ok(places), Err(NoGoHeap::NotGo), Err(NoGoHeap::NotFound(Variable::Goroutines))] {
            let answer = Answer::Goroutines(answer);
            let bytes = answer.encode();
            assert_eq!(Answer::decode(&bytes), Ok(answer));
            assert!((0..bytes.len()).all(|end| Answer::decode(&bytes[..end]).is_err()));
        }
    }
}
