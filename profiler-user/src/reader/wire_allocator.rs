//! An allocator's functions on the wire: each with its two places for probes, then the stretches of the allocator's own code.

use super::wire::{In, Malformed, Out};
use crate::model::allocator::{
    ALIASES_MAX, Allocator, AllocatorCall, AllocatorFunction, FUNCTIONS_MAX, GIVEN_MAX, GivenFunction, OWN_MAX, ProbePlace,
};

/// The longest name of a function, bytes.
const NAME_MAX_BYTES: usize = 256;

impl Out {
    pub(super) fn given_functions(&mut self, given: &[GivenFunction]) {
        self.u8(4);
        let given = &given[..given.len().min(GIVEN_MAX)];
        self.u32(given.len());
        for function in given {
            self.u8(function.call as u8);
            self.bytes(&function.name.as_bytes()[..function.name.len().min(NAME_MAX_BYTES)]);
        }
    }

    pub(super) fn allocator(&mut self, allocator: &Allocator) {
        let functions = &allocator.functions[..allocator.functions.len().min(FUNCTIONS_MAX)];
        self.u32(functions.len());
        for function in functions {
            self.function_name(&function.name);
            let aliases = &function.aliases[..function.aliases.len().min(ALIASES_MAX)];
            self.u32(aliases.len());
            aliases.iter().for_each(|alias| self.function_name(alias));
            self.u8(function.call as u8);
            self.u64(function.entry);
            self.place(function.at_entry);
            self.place(function.after_entry);
            self.u8(u8::from(function.forwards));
            // 0: by its name.
            self.u32(function.given.map_or(0, |at| at as usize + 1));
        }
        let given = &allocator.given[..allocator.given.len().min(GIVEN_MAX)];
        self.u32(given.len());
        given.iter().for_each(|at| self.u32(*at as usize));
        let own = &allocator.own[..allocator.own.len().min(OWN_MAX)];
        self.u32(own.len());
        for (first, end) in own {
            self.u64(*first);
            self.u64(*end);
        }
        self.marks(&allocator.marks);
    }

    fn function_name(&mut self, name: &str) {
        let name = &name.as_bytes()[..name.len().min(NAME_MAX_BYTES)];
        self.u32(name.len());
        self.0.extend(name);
    }

    fn place(&mut self, place: ProbePlace) {
        self.u64(place.offset);
        self.u32(place.pushed as usize);
        self.u8(u8::from(place.is_emulated));
    }
}

impl In<'_> {
    pub(super) fn given_functions(&mut self) -> Result<Vec<GivenFunction>, Malformed> {
        let function =
            |from: &mut Self| Ok(GivenFunction { call: call(from.u8()?)?, name: String::from_utf8_lossy(from.bytes()?).into_owned() });
        (0..self.count(GIVEN_MAX)?).map(|_| function(self)).collect()
    }

    pub(super) fn allocator(&mut self) -> Result<Allocator, Malformed> {
        let mut functions: Vec<AllocatorFunction> = Vec::new();
        for _ in 0..self.count(FUNCTIONS_MAX)? {
            let function = self.allocator_function()?;
            if functions.iter().any(|known| known.entry == function.entry) {
                return Err(Malformed("two functions of one entry"));
            }
            functions.push(function);
        }
        let given = (0..self.count(GIVEN_MAX)?).map(|_| self.u32()).collect::<Result<_, _>>()?;
        let mut own: Vec<(u64, u64)> = Vec::new();
        for _ in 0..self.count(OWN_MAX)? {
            let (first, end) = (self.u64()?, self.u64()?);
            if first >= end || own.last().is_some_and(|last| last.1 > first) {
                return Err(Malformed("code that overlaps"));
            }
            own.push((first, end));
        }
        Ok(Allocator { functions, own, given, marks: self.marks()? })
    }

    fn allocator_function(&mut self) -> Result<AllocatorFunction, Malformed> {
        let name = self.function_name()?;
        let aliases = (0..self.count(ALIASES_MAX)?).map(|_| self.function_name()).collect::<Result<_, _>>()?;
        let (call, entry) = (call(self.u8()?)?, self.u64()?);
        let (at_entry, after_entry) = (self.place(entry)?, self.place(entry)?);
        if at_entry.pushed != 0 {
            return Err(Malformed("a place that is not at the entry"));
        }
        let (forwards, given) = (self.flag()?, self.u32()?.checked_sub(1));
        Ok(AllocatorFunction { name, aliases, call, entry, at_entry, after_entry, forwards, given })
    }

    fn function_name(&mut self) -> Result<String, Malformed> {
        let length = self.count(NAME_MAX_BYTES)?;
        Ok(String::from_utf8_lossy(self.take(length)?).into_owned())
    }

    /// A place in the function that begins at `entry`.
    fn place(&mut self, entry: u64) -> Result<ProbePlace, Malformed> {
        let place = ProbePlace { offset: self.u64()?, pushed: self.u32()?, is_emulated: self.flag()? };
        let is_near = place.offset.checked_sub(entry).is_some_and(|distance| distance < DISTANCE_MAX);
        if is_near && place.pushed <= PUSHED_MAX { Ok(place) } else { Err(Malformed("a place outside its function")) }
    }
}

/// How far a place can be behind the entry, bytes: so many instructions are looked at.
const DISTANCE_MAX: u64 = 64 * 15;
/// How far the stack pointer can be below the entry's, bytes.
const PUSHED_MAX: u32 = 1 << 20;

fn call(number: u8) -> Result<AllocatorCall, Malformed> {
    match number {
        0 => Ok(AllocatorCall::Malloc),
        1 => Ok(AllocatorCall::Calloc),
        2 => Ok(AllocatorCall::Realloc),
        3 => Ok(AllocatorCall::Memalign),
        4 => Ok(AllocatorCall::AlignedNew),
        5 => Ok(AllocatorCall::PosixMemalign),
        6 => Ok(AllocatorCall::Free),
        _ => Err(Malformed("an unknown call")),
    }
}
