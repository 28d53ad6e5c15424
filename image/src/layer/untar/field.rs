//! The fields of a tar header.

use super::{BLOCK, UntarError, malformed};

/// Where the check sum stands; it counts as spaces in its own sum.
const SUM: std::ops::Range<usize> = 148..156;

/// The bytes before the first zero.
pub(super) fn until_nul(field: &[u8]) -> &[u8] {
    field.iter().position(|b| *b == 0).map_or(field, |end| &field[..end])
}

/// The name, with ustar's prefix. GNU's format has times where the prefix would be.
pub(super) fn path(block: &[u8; BLOCK]) -> Vec<u8> {
    let (name, prefix) = (until_nul(&block[..100]), until_nul(&block[345..500]));
    if &block[257..263] != b"ustar\0" || prefix.is_empty() {
        return name.to_vec();
    }
    [prefix, b"/", name].concat()
}

/// A number that cannot be negative.
pub(super) fn number(field: &[u8]) -> Result<u64, UntarError> {
    u64::try_from(signed(field)?).map_err(|_| malformed("a negative number"))
}

/// A number of 32 bits.
pub(super) fn small(field: &[u8]) -> Result<u32, UntarError> {
    u32::try_from(number(field)?).map_err(|_| malformed("a number is too large"))
}

/// A number: octal digits, or two's complement in base 256 where the first bit is set.
pub(super) fn signed(field: &[u8]) -> Result<i64, UntarError> {
    if field[0] & 0x80 != 0 {
        // The first bit marks the format, the second is the sign.
        let negative = field[0] & 0x40 != 0;
        let mut value: i64 = if negative { -1 } else { 0 };
        for (at, byte) in field.iter().enumerate() {
            let byte = match (at, negative) {
                (0, true) => byte | 0x80,
                (0, false) => byte & 0x7f,
                _ => *byte,
            };
            let shifted = value.checked_mul(256).ok_or_else(|| malformed("a number is too large"))?;
            value = shifted | i64::from(byte);
        }
        return Ok(value);
    }
    let trim = |b: &u8| matches!(b, b' ' | 0);
    let start = field.iter().position(|b| !trim(b)).unwrap_or(field.len());
    let digits = &field[start..];
    let digits = &digits[..digits.iter().position(trim).unwrap_or(digits.len())];
    digits.iter().try_fold(0_i64, |value, digit| match digit {
        b'0'..=b'7' => Ok(value * 8 + i64::from(digit - b'0')),
        _ => Err(malformed("a number has digits that are not octal")),
    })
}

/// Checks a header's sum. Old writers summed signed bytes.
pub(super) fn check_sum(block: &[u8; BLOCK]) -> Result<(), UntarError> {
    let wanted = signed(&block[SUM])?;
    let (mut unsigned, mut signed) = (0_i64, 0_i64);
    for (at, byte) in block.iter().enumerate() {
        let byte = if SUM.contains(&at) { b' ' } else { *byte };
        unsigned += i64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    if wanted == unsigned || wanted == signed {
        Ok(())
    } else {
        Err(malformed("a header's check sum is wrong"))
    }
}
