//! From the DWARF entry of a function to the entries that declare it: in the same unit, in another one, or in a shared debug file.

use super::dwarf::Slice;
use crate::model::answer::bounded;
use gimli::{AttributeValue, DebugInfoOffset, Dwarf, Unit, UnitOffset};
use std::collections::HashMap;
use std::rc::Rc;

/// A function or inlined function around an address.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Declared {
    /// Line of its declaration, or 0.
    pub start_line: u32,
    /// Its name (linkage name if there is one) if that stands in the shared debug file.
    pub shared_name: Option<String>,
}

/// How many references from a function to what declares it are followed.
const REFERENCES_MAX: usize = 8;

/// Most units that are kept open for references into them.
const UNITS_KEPT: usize = 256;

/// Most units of a file.
const UNITS_MAX: usize = 1 << 20;

/// Where the units begin, of the file and of the shared one, in their order.
#[derive(Debug, Default)]
pub(super) struct Headers {
    main: Vec<usize>,
    shared: Vec<usize>,
}

impl Headers {
    pub(super) fn read(dwarf: &Dwarf<Slice<'_>>) -> Self {
        Self { main: unit_offsets(dwarf), shared: dwarf.sup().map(unit_offsets).unwrap_or_default() }
    }
}

fn unit_offsets(dwarf: &Dwarf<Slice<'_>>) -> Vec<usize> {
    let mut headers = dwarf.units();
    let next = || Some(headers.next().ok()??.debug_info_offset().map_or(0, |offset| offset.0));
    std::iter::from_fn(next).take(UNITS_MAX).collect()
}

/// Which file an offset counts in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Of {
    Main,
    Shared,
}

/// Follows references, and keeps the units that they lead into.
pub(super) struct References<'d, 'a> {
    dwarf: &'d Dwarf<Slice<'a>>,
    headers: &'d Headers,
    units: HashMap<(Of, usize), Rc<Unit<Slice<'a>>>>,
}

/// What was found of a function so far.
#[derive(Default)]
struct Found {
    line: Option<u32>,
    /// Names are taken from the shared file only: all others blazesym finds.
    linkage_name: Option<String>,
    name: Option<String>,
}

impl<'d, 'a> References<'d, 'a> {
    pub(super) fn new(dwarf: &'d Dwarf<Slice<'a>>, headers: &'d Headers) -> Self {
        Self { dwarf, headers, units: HashMap::new() }
    }

    pub(super) fn dwarf(&self) -> &'d Dwarf<Slice<'a>> {
        self.dwarf
    }

    /// What an entry of the file says of a function, and where it says nothing, the abstract or the declared function behind it.
    pub(super) fn declared(&mut self, unit: &Unit<Slice<'a>>, offset: UnitOffset) -> Declared {
        let mut found = Found::default();
        // A malformed reference ends the search; what was found on the way stands.
        let _ = self.follow(&mut found, unit, offset);
        Declared { start_line: found.line.unwrap_or(0), shared_name: found.linkage_name.or(found.name) }
    }

    fn follow(&mut self, found: &mut Found, unit: &Unit<Slice<'a>>, mut offset: UnitOffset) -> gimli::Result<()> {
        let (mut of, mut far) = (Of::Main, None::<Rc<Unit<Slice<'a>>>>);
        for _ in 0..=REFERENCES_MAX {
            let Some(dwarf) = self.file(of) else { return Ok(()) };
            let target = match found.take(dwarf, far.as_deref().unwrap_or(unit), offset, of)? {
                Some(AttributeValue::UnitRef(near)) => {
                    offset = near;
                    continue;
                }
                Some(AttributeValue::DebugInfoRef(target)) => target,
                Some(AttributeValue::DebugInfoRefSup(target)) => {
                    of = Of::Shared;
                    target
                }
                _ => return Ok(()),
            };
            far = self.unit_around(of, target)?;
            match far.as_ref().and_then(|unit| target.to_unit_offset(&unit.header)) {
                Some(near) => offset = near,
                None => return Ok(()),
            }
        }
        Ok(())
    }

    fn file(&self, of: Of) -> Option<&'d Dwarf<Slice<'a>>> {
        match of {
            Of::Main => Some(self.dwarf),
            Of::Shared => self.dwarf.sup(),
        }
    }

    fn unit_around(&mut self, of: Of, offset: DebugInfoOffset) -> gimli::Result<Option<Rc<Unit<Slice<'a>>>>> {
        let headers = match of {
            Of::Main => &self.headers.main,
            Of::Shared => &self.headers.shared,
        };
        let before = headers.partition_point(|begin| *begin <= offset.0);
        let (Some(begin), Some(dwarf)) = (headers[..before].last(), self.file(of)) else { return Ok(None) };
        if let Some(unit) = self.units.get(&(of, *begin)) {
            return Ok(Some(Rc::clone(unit)));
        }
        let unit = Rc::new(dwarf.unit(dwarf.unit_header(DebugInfoOffset(*begin))?)?);
        if self.units.len() >= UNITS_KEPT {
            self.units.clear();
        }
        self.units.insert((of, *begin), Rc::clone(&unit));
        Ok(Some(unit))
    }
}

impl Found {
    /// Takes what is still wanted from an entry; returns where it refers to.
    fn take<'a>(
        &mut self,
        dwarf: &Dwarf<Slice<'a>>,
        unit: &Unit<Slice<'a>>,
        offset: UnitOffset,
        of: Of,
    ) -> gimli::Result<Option<AttributeValue<Slice<'a>>>> {
        let entry = unit.entry(offset)?;
        let text =
            |attribute| dwarf.attr_string(unit, entry.attr_value(attribute)?).ok().map(|text| bounded(&text.to_string_lossy()).to_owned());
        self.line = self.line.or_else(|| u32::try_from(entry.attr_value(gimli::DW_AT_decl_line)?.udata_value()?).ok());
        if of == Of::Shared {
            self.linkage_name = self.linkage_name.take().or_else(|| text(gimli::DW_AT_linkage_name));
            self.name = self.name.take().or_else(|| text(gimli::DW_AT_name));
        }
        Ok(entry.attr_value(gimli::DW_AT_abstract_origin).or_else(|| entry.attr_value(gimli::DW_AT_specification)))
    }
}
