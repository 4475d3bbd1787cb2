//! The arguments of a tracepoint, by their names in the kernel's types: those of the function that calls its programs (`__traceiter_NAME`).

use super::btf::{KIND_ENUM, KIND_ENUM64, KIND_FUNC_PROTO, KIND_INT, KIND_STRUCT, KIND_UNION, KernelTypes, extra_bytes, word};
use crate::model::custom::nearest;

// Kinds of type (include/uapi/linux/btf.h).
const KIND_PTR: u32 = 2;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_RESTRICT: u32 = 11;
const KIND_FUNC: u32 = 12;
const KIND_TYPE_TAG: u32 = 18;
/// Types that lead to another one, at most.
const TURNS_MAX: usize = 32;
/// What the function's name begins with, before the tracepoint's.
const CALLER: &str = "__traceiter_";

/// The types, by their number.
pub(super) struct Tracepoints<'a> {
    types: &'a KernelTypes,
    /// Where each begins.
    places: Vec<usize>,
}

/// What a number is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shape {
    pub(super) bytes: u32,
    pub(super) is_signed: bool,
}

/// Where a field is: an argument, or what lies so far from where it points.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Field {
    pub(super) argument: usize,
    pub(super) member_at: Option<u32>,
    pub(super) shape: Shape,
}

impl<'a> Tracepoints<'a> {
    pub(super) fn new(types: &'a KernelTypes) -> Self {
        // The first type, void, stands nowhere.
        let (mut places, mut at) = (vec![usize::MAX], types.types.start);
        while at + 12 <= types.types.end {
            places.push(at);
            let Some(info) = word(&types.bytes, at + 4) else { break };
            at += 12 + extra_bytes(info >> 24 & 0x1f, (info & 0xffff) as usize);
        }
        Self { types, places }
    }

    /// A type's kind, how many members it has, and its last word.
    fn head(&self, number: u32) -> Option<(u32, usize, u32)> {
        let at = *self.places.get(number as usize).filter(|at| **at != usize::MAX)?;
        let info = word(&self.types.bytes, at + 4)?;
        Some((info >> 24 & 0x1f, (info & 0xffff) as usize, word(&self.types.bytes, at + 8)?))
    }

    /// The type without its other names.
    fn plain(&self, mut number: u32) -> u32 {
        for _ in 0..TURNS_MAX {
            match self.head(number) {
                Some((KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG, _, next)) => number = next,
                _ => break,
            }
        }
        number
    }

    fn shape(&self, number: u32) -> Option<Shape> {
        let number = self.plain(number);
        match self.head(number)? {
            (KIND_PTR, ..) => Some(Shape { bytes: 8, is_signed: false }),
            (KIND_INT, _, bytes) if bytes <= 8 => {
                let encoding = word(&self.types.bytes, self.places[number as usize] + 12)?;
                Some(Shape { bytes, is_signed: encoding >> 24 & 1 != 0 })
            }
            (KIND_ENUM | KIND_ENUM64, _, bytes) if bytes <= 8 => Some(Shape { bytes, is_signed: true }),
            _ => None,
        }
    }

    /// The functions that call programs, by the names of their tracepoints.
    fn callers(&self) -> impl Iterator<Item = (&'a str, u32)> + '_ {
        let types = self.types;
        (1..self.places.len() as u32).filter_map(move |number| {
            let (KIND_FUNC, _, prototype) = self.head(number)? else { return None };
            let name = types.string(word(&types.bytes, self.places[number as usize])?).strip_prefix(CALLER)?;
            Some((name, prototype))
        })
    }

    /// The names and the types of a tracepoint's arguments.
    ///
    /// # Errors
    /// There is none of that name; perhaps another was meant.
    pub(super) fn arguments(&self, tracepoint: &str) -> Result<Vec<(&'a str, u32)>, Option<&'a str>> {
        let found = self.callers().find(|(name, _)| *name == tracepoint);
        let Some((_, prototype)) = found else { return Err(nearest(tracepoint, self.callers().map(|(name, _)| name))) };
        let Some((KIND_FUNC_PROTO, count, _)) = self.head(prototype) else { return Err(None) };
        let at = self.places[prototype as usize] + 12;
        let argument = |index: usize| {
            Some((self.types.string(word(&self.types.bytes, at + 8 * index)?), word(&self.types.bytes, at + 8 * index + 4)?))
        };
        // The first one is the kernel's own.
        Ok((1..count).filter_map(argument).collect())
    }

    /// Finds a field among arguments.
    ///
    /// # Errors
    /// What is not there, or is no number, and what there is.
    pub(super) fn field(&self, arguments: &[(&str, u32)], name: &str, member: Option<&str>) -> Result<Field, String> {
        let names = || arguments.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        let argument = arguments
            .iter()
            .position(|(known, _)| *known == name)
            .ok_or_else(|| format!("there is no field {name}; there are: {}", names()))?;
        let of = arguments[argument].1;
        let Some(member) = member else {
            let shape = self.shape(of).ok_or_else(|| format!("{name} is no number"))?;
            return Ok(Field { argument, member_at: None, shape });
        };
        let pointed = match self.head(self.plain(of)) {
            Some((KIND_PTR, _, to)) => self.plain(to),
            _ => return Err(format!("{name} points to nothing that has members; leave .{member} out")),
        };
        let (at, shape) = self.member(pointed, member).ok_or_else(|| {
            let near = nearest(member, self.member_names(pointed));
            let meant = near.map_or(String::new(), |near| format!(" (is it {near}?)"));
            format!("what {name} points to has no member {member} that is a number{meant}")
        })?;
        Ok(Field { argument, member_at: Some(at), shape })
    }

    fn members(&self, number: u32) -> impl Iterator<Item = (&'a str, u32, u32)> + '_ {
        let types = self.types;
        let count = match self.head(number) {
            Some((KIND_STRUCT | KIND_UNION, count, _)) => count,
            _ => 0,
        };
        (0..count).filter_map(move |index| {
            let at = self.places[number as usize] + 12 + 12 * index;
            Some((types.string(word(&types.bytes, at)?), word(&types.bytes, at + 4)?, word(&types.bytes, at + 8)?))
        })
    }

    fn member_names(&self, number: u32) -> Vec<&'a str> {
        self.members(number).map(|(name, ..)| name).collect()
    }

    /// Where a member is, bytes, and what it is; none that is a part of a byte.
    fn member(&self, number: u32, name: &str) -> Option<(u32, Shape)> {
        let has_bit_fields = word(&self.types.bytes, self.places[number as usize] + 4)? >> 31 != 0;
        let (_, of, bits) = self.members(number).find(|(known, ..)| *known == name)?;
        let (at, width) = if has_bit_fields { (bits & 0x00ff_ffff, bits >> 24) } else { (bits, 0) };
        (width == 0 && at % 8 == 0).then_some((at / 8, self.shape(of)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_the_running_kernel_have_names() {
        let types = KernelTypes::load().expect("this kernel has BTF");
        let tracepoints = Tracepoints::new(&types);
        let arguments = tracepoints.arguments("sched_process_fork").expect("every kernel has it");
        assert_eq!(arguments.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["parent", "child"]);
        let pid = tracepoints.field(&arguments, "child", Some("pid")).expect("a member");
        assert_eq!((pid.argument, pid.shape), (1, Shape { bytes: 4, is_signed: true }));
        assert!(pid.member_at.is_some_and(|at| at > 0));
        assert!(tracepoints.field(&arguments, "chidl", None).is_err_and(|why| why.contains("parent, child")));
        assert!(tracepoints.field(&arguments, "child", Some("pdi")).is_err_and(|why| why.contains("pid")));
        assert_eq!(tracepoints.arguments("sched_process_frok"), Err(Some("sched_process_fork")));
    }
}
