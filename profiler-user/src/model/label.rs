//! Labels of samples, as pprof has them.

use std::sync::Arc;

/// A label.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Label {
    /// Its key.
    pub key: Arc<str>,
    /// Its value.
    pub value: LabelValue,
}

/// The value of a label: text, or a number with a unit. A number without a unit would vanish when it is 0.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum LabelValue {
    /// Text; never empty.
    Text(Arc<str>),
    /// A number.
    Number {
        /// The number.
        value: i64,
        /// Its unit, never empty.
        unit: &'static str,
    },
}

impl Label {
    /// A label with text.
    pub fn text(key: impl Into<Arc<str>>, value: impl Into<Arc<str>>) -> Self {
        Self { key: key.into(), value: LabelValue::Text(value.into()) }
    }

    /// A label with a number.
    pub fn number(key: impl Into<Arc<str>>, value: i64, unit: &'static str) -> Self {
        Self { key: key.into(), value: LabelValue::Number { value, unit } }
    }
}
