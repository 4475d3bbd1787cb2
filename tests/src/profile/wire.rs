//! Protobuf's wire format, read by hand: varints, lengths and packed numbers, as its specification of encoding has them.

use anyhow::{Context, Result, bail, ensure};

/// One field of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    /// Its number.
    pub(super) number: u64,
    value: Value<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    /// A number.
    pub(super) fn unsigned(&self) -> Result<u64> {
        match self.value {
            Value::Varint(value) => Ok(value),
            Value::Bytes(_) => bail!("field {} is bytes where a number belongs", self.number),
        }
    }

    /// A signed number (two's complement in 64 bits, as `int64` is).
    pub(super) fn signed(&self) -> Result<i64> {
        Ok(self.unsigned()?.cast_signed())
    }

    /// A message, a string, or packed numbers.
    pub(super) fn bytes(&self) -> Result<&'a [u8]> {
        match self.value {
            Value::Bytes(bytes) => Ok(bytes),
            Value::Varint(_) => bail!("field {} is a number where bytes belong", self.number),
        }
    }

    /// Adds a repeated number, packed or not.
    pub(super) fn append_to(&self, numbers: &mut Vec<u64>) -> Result<()> {
        match self.value {
            Value::Varint(value) => numbers.push(value),
            Value::Bytes(mut bytes) => {
                while !bytes.is_empty() {
                    numbers.push(varint(&mut bytes)?);
                }
            }
        }
        Ok(())
    }
}

/// All fields of a message, in the order of the wire.
pub(super) fn fields(mut bytes: &[u8]) -> Result<Vec<Field<'_>>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let value = match tag & 7 {
            0 => Value::Varint(varint(&mut bytes)?),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?)?;
                ensure!(length <= bytes.len(), "field {} is longer than its message", tag >> 3);
                let (value, rest) = bytes.split_at(length);
                bytes = rest;
                Value::Bytes(value)
            }
            other => bail!("wire type {other} does not occur in profile.proto"),
        };
        fields.push(Field { number: tag >> 3, value });
    }
    Ok(fields)
}

/// Takes a varint from the front.
fn varint(bytes: &mut &[u8]) -> Result<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().context("a number is cut off")?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    bail!("a number has more than ten bytes")
}

#[cfg(test)]
mod tests {
    use super::{fields, varint};

    #[test]
    fn numbers_read_as_the_specification_shows() {
        assert_eq!(varint(&mut &[0x96, 0x01][..]).expect("150"), 150);
        assert_eq!(varint(&mut &[0xff; 9].iter().chain(&[1]).copied().collect::<Vec<_>>()[..]).expect("-1"), u64::MAX);
        assert!(varint(&mut &[0x80][..]).is_err());
    }

    #[test]
    fn a_field_longer_than_its_message_is_refused() {
        assert!(fields(&[0x0a, 0x05, 1]).is_err());
        let mut numbers = Vec::new();
        fields(&[0x12, 0x03, 1, 0x96, 0x01]).expect("packed")[0].append_to(&mut numbers).expect("numbers");
        assert_eq!(numbers, [1, 150]);
    }
}
