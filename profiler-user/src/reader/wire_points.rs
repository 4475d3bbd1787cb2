//! The places of custom probes on the wire: names that are wanted, then for each where it is, or which name may have been meant.

use super::wire::{In, Malformed, Out};
use crate::model::custom::USDT_ARGUMENTS;
use crate::model::probe_points::{Found, FoundPoints, Mark, MarkArgument, MarkPlace, PLACES_MAX, WANTED_MAX, WantedPoints};

/// The longest name that is asked for, bytes.
const NAME_MAX_BYTES: usize = 400;

impl Out {
    fn name(&mut self, name: &str) {
        self.bytes(&name.as_bytes()[..name.len().min(NAME_MAX_BYTES)]);
    }

    pub(super) fn wanted_points(&mut self, wanted: &WantedPoints) {
        self.u8(7);
        let (functions, marks) =
            (&wanted.functions[..wanted.functions.len().min(WANTED_MAX)], &wanted.marks[..wanted.marks.len().min(WANTED_MAX)]);
        self.u32(functions.len());
        functions.iter().for_each(|name| self.name(name));
        self.u32(marks.len());
        for (provider, name) in marks {
            self.name(provider);
            self.name(name);
        }
    }

    pub(super) fn found_points(&mut self, found: &FoundPoints) {
        self.u8(8);
        self.found(&found.functions, |out, offset| out.u64(*offset));
        self.found(&found.marks, |out, mark: &Mark| {
            out.u64(mark.offset);
            out.u64(mark.semaphore);
            let arguments = &mark.arguments[..mark.arguments.len().min(usize::from(USDT_ARGUMENTS))];
            out.u32(arguments.len());
            arguments.iter().for_each(|argument| out.mark_argument(argument.as_ref()));
        });
    }

    fn found<T>(&mut self, all: &[Found<T>], each: impl Fn(&mut Self, &T)) {
        self.u32(all.len());
        for found in all {
            match found {
                Found::At(places) => {
                    self.u8(1);
                    self.u32(places.len());
                    places.iter().for_each(|place| each(self, place));
                }
                Found::Nowhere(meant) => {
                    self.u8(0);
                    self.optional(meant.as_ref().map(|name| name.as_bytes()));
                }
            }
        }
    }

    pub(super) fn mark_argument(&mut self, argument: Option<&MarkArgument>) {
        let Some(argument) = argument else { return self.u8(0) };
        let (sort, register, number) = match argument.at {
            MarkPlace::Number(number) => (1, 0, number),
            MarkPlace::Register(register) => (2, register, 0),
            MarkPlace::Memory(register, offset) => (3, register, offset),
        };
        self.u8(sort);
        self.u8(argument.bytes);
        self.u8(u8::from(argument.is_signed));
        self.u8(register);
        self.u64(number as u64);
    }
}

impl In<'_> {
    fn name(&mut self) -> Result<String, Malformed> {
        Ok(String::from_utf8_lossy(self.bytes()?).into_owned())
    }

    pub(super) fn wanted_points(&mut self) -> Result<WantedPoints, Malformed> {
        let functions = (0..self.count(WANTED_MAX)?).map(|_| self.name()).collect::<Result<_, _>>()?;
        let marks = (0..self.count(WANTED_MAX)?).map(|_| Ok((self.name()?, self.name()?))).collect::<Result<_, _>>()?;
        Ok(WantedPoints { functions, marks })
    }

    pub(super) fn found_points(&mut self) -> Result<FoundPoints, Malformed> {
        let functions = self.found(Self::u64)?;
        let marks = self.found(|from| {
            let (offset, semaphore) = (from.u64()?, from.u64()?);
            let arguments = (0..from.count(usize::from(USDT_ARGUMENTS))?).map(|_| from.mark_argument()).collect::<Result<_, _>>()?;
            Ok(Mark { offset, semaphore, arguments })
        })?;
        Ok(FoundPoints { functions, marks })
    }

    fn found<T>(&mut self, each: impl Fn(&mut Self) -> Result<T, Malformed>) -> Result<Vec<Found<T>>, Malformed> {
        let mut all = Vec::new();
        for _ in 0..self.count(WANTED_MAX)? {
            all.push(if self.flag()? {
                Found::At((0..self.count(PLACES_MAX)?).map(|_| each(self)).collect::<Result<_, _>>()?)
            } else {
                Found::Nowhere(self.optional()?.map(|name| String::from_utf8_lossy(name).into_owned()))
            });
        }
        Ok(all)
    }

    pub(super) fn mark_argument(&mut self) -> Result<Option<MarkArgument>, Malformed> {
        let sort = self.u8()?;
        if sort == 0 {
            return Ok(None);
        }
        let (bytes, is_signed, register, number) = (self.u8()?, self.flag()?, self.u8()?, self.u64()? as i64);
        if !matches!(bytes, 1 | 2 | 4 | 8) || register > 15 {
            return Err(Malformed("an argument in no register"));
        }
        let at = match sort {
            1 => MarkPlace::Number(number),
            2 => MarkPlace::Register(register),
            3 => MarkPlace::Memory(register, number),
            _ => return Err(Malformed("an argument in no place")),
        };
        Ok(Some(MarkArgument { bytes, is_signed, at }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::{Answer, Request};
    use super::*;

    #[test]
    fn places_arrive_as_they_were_sent_and_what_is_cut_off_is_refused() {
        let wanted = WantedPoints { functions: vec!["fopen".into()], marks: vec![("python".into(), "line".into())] };
        let request = Request::Points(wanted);
        assert_eq!(Request::decode(&request.encode()), Ok(request));
        let argument = MarkArgument { bytes: 4, is_signed: true, at: MarkPlace::Memory(7, -8) };
        let mark = Mark { offset: 0x10, semaphore: 0x20, arguments: vec![Some(argument), None] };
        let found =
            FoundPoints { functions: vec![Found::At(vec![1, 2]), Found::Nowhere(Some("x".into()))], marks: vec![Found::At(vec![mark])] };
        let bytes = Answer::Points(found.clone()).encode();
        assert_eq!(Answer::decode(&bytes), Ok(Answer::Points(found)));
        for length in 1..bytes.len() {
            assert!(Answer::decode(&bytes[..length]).is_err());
        }
    }
}
