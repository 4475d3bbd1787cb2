//! Where in a file the probes of custom profiles can be: functions by their symbols, and places that its authors have marked (USDT).

/// What is looked for in a file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WantedPoints {
    /// Functions, by their symbols.
    pub functions: Vec<String>,
    /// Marks, by whose they are and their name.
    pub marks: Vec<(String, String)>,
}

/// What was found, in the order of what was wanted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FoundPoints {
    /// The places of each function: several where a symbol has several versions.
    pub functions: Vec<Found<u64>>,
    /// The places of each mark: wherever the compiler has put it.
    pub marks: Vec<Found<Mark>>,
}

/// The places of one name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found<T> {
    /// Where it is: file offsets.
    At(Vec<T>),
    /// Nowhere; perhaps this name was meant.
    Nowhere(Option<String>),
}

/// A marked place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mark {
    /// File offset of the instruction.
    pub offset: u64,
    /// File offset of the word that says that somebody looks; 0: there is none.
    pub semaphore: u64,
    /// Its arguments; None where one is written in a way that is not understood.
    pub arguments: Vec<Option<MarkArgument>>,
}

/// An argument of a mark.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MarkArgument {
    /// Its size, bytes.
    pub bytes: u8,
    /// Whether it has a sign.
    pub is_signed: bool,
    /// Where it is.
    pub at: MarkPlace,
}

/// Where an argument of a mark is. Registers have the numbers that DWARF gives them on this machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MarkPlace {
    /// It is this number.
    Number(i64),
    /// In a register.
    Register(u8),
    /// In memory, so far from where a register points.
    Memory(u8, i64),
}

/// Places of one name at most.
pub const PLACES_MAX: usize = 64;
/// Names in one question at most.
pub const WANTED_MAX: usize = 64;
