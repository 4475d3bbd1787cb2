//! The place of Go's goroutines on the wire, and what Go's table says of a place in its code.

use super::wire::{In, Malformed, Out};
use crate::model::answer::GoPlace;
use crate::model::goroutines::{GoroutinePlaces, Goroutines};

impl Out {
    pub(super) fn goroutines(&mut self, answer: &Goroutines) {
        match answer {
            Ok(GoroutinePlaces { all, minor, text, faults, callbacks }) => {
                self.u8(0);
                [*all, text.0, text.1, faults.0, faults.1, callbacks.0, callbacks.1].into_iter().for_each(|number| self.u64(number));
                self.u32(callbacks.2 as usize);
                self.u32(*minor as usize);
            }
            Err(why) => {
                self.u8(1);
                self.no_go_heap(why);
            }
        }
    }

    pub(super) fn go_place(&mut self, place: Option<GoPlace>) {
        self.u8(place.map_or(0, |place| 1 | u8::from(place.is_wrapper) << 1 | u8::from(place.is_inlined) << 2));
        if let Some(place) = place {
            self.u32(place.offset as usize);
        }
    }
}

impl In<'_> {
    pub(super) fn goroutines(&mut self) -> Result<Goroutines, Malformed> {
        Ok(match self.u8()? {
            0 => {
                let (all, text, faults) = (self.u64()?, (self.u64()?, self.u64()?), (self.u64()?, self.u64()?));
                let callbacks = (self.u64()?, self.u64()?, self.u32()?);
                Ok(GoroutinePlaces { all, text, faults, callbacks, minor: self.u32()? })
            }
            1 => Err(self.no_go_heap()?),
            _ => return Err(Malformed("an unknown answer about goroutines")),
        })
    }

    pub(super) fn go_place(&mut self) -> Result<Option<GoPlace>, Malformed> {
        match self.u8()? {
            0 => Ok(None),
            kind @ (1 | 3 | 5 | 7) => Ok(Some(GoPlace { offset: self.u32()?, is_wrapper: kind & 2 != 0, is_inlined: kind & 4 != 0 })),
            _ => Err(Malformed("an unknown kind of place")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::Answer;
    use super::*;
    use crate::model::go_heap::{NoGoHeap, Variable};

    #[test]
    fn what_is_said_of_goroutines_reads_back() {
        let places = GoroutinePlaces { all: 7, minor: 26, text: (1, u64::MAX), faults: (5, 6), callbacks: (7, 8, 40) };
        for answer in [Ok(places), Err(NoGoHeap::NotGo), Err(NoGoHeap::NotFound(Variable::Goroutines))] {
            let answer = Answer::Goroutines(answer);
            let bytes = answer.encode();
            assert_eq!(Answer::decode(&bytes), Ok(answer));
            assert!((0..bytes.len()).all(|end| Answer::decode(&bytes[..end]).is_err()));
        }
    }
}
