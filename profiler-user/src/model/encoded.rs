//! A profile as bytes, and what a destination may know of it: enough for a name or a header, nothing of the format.

use super::kind::Kind;
use super::process::Pid;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// What the bytes are about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct About {
    /// Kind of profile.
    pub kind: Kind,
    /// The one process that it is about, if it is about one.
    pub process: Option<(Pid, Arc<str>)>,
    /// When it began.
    pub start: SystemTime,
    /// How long it was.
    pub duration: Duration,
}

/// A profile in some format.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Encoded {
    /// The bytes, whole.
    pub bytes: Vec<u8>,
    /// Media type, as HTTP has it.
    pub media_type: &'static str,
    /// What they are about.
    pub about: About,
}
