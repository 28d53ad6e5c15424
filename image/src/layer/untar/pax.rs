//! What PAX records say about the next entry.

use super::{UntarError, malformed};
use crate::layer::entry::Xattr;

/// Before the name of an extended attribute.
const XATTR: &[u8] = b"SCHILY.xattr.";

/// What was said before an entry's own header.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: Vec<Xattr>,
    any: bool,
}

impl Said {
    pub(super) fn is_empty(&self) -> bool {
        !self.any && self.path.is_none() && self.link.is_none()
    }

    /// Reads `LENGTH KEY=VALUE\n`, again and again.
    pub(super) fn records(&mut self, mut bytes: &[u8]) -> Result<(), UntarError> {
        self.any = true;
        while !bytes.is_empty() {
            let broken = || malformed("a PAX record is broken");
            let space = bytes.iter().take(20).position(|b| *b == b' ').ok_or_else(broken)?;
            let length: usize = text(&bytes[..space]).and_then(|t| t.parse().ok()).ok_or_else(broken)?;
            let record = bytes.get(space + 1..length).ok_or_else(broken)?;
            let record = record.strip_suffix(b"\n").ok_or_else(broken)?;
            let equals = record.iter().position(|b| *b == b'=').ok_or_else(broken)?;
            self.record(&record[..equals], &record[equals + 1..])?;
            bytes = &bytes[length..];
        }
        Ok(())
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), UntarError> {
        // An empty value takes back what was said before.
        let some = |value: &[u8]| (!value.is_empty()).then(|| value.to_vec());
        match key {
            b"path" | b"linkpath" if value.contains(&0) => return Err(malformed("a name holds a zero byte")),
            b"path" => self.path = some(value),
            b"linkpath" => self.link = some(value),
            b"size" => self.size = number(value)?,
            b"uid" => self.uid = number(value)?,
            b"gid" => self.gid = number(value)?,
            b"mtime" => self.mtime = if value.is_empty() { None } else { Some(time(value)?) },
            _ if key.starts_with(b"GNU.sparse.") => return Err(malformed("a sparse entry")),
            _ => {
                if let Some(name) = key.strip_prefix(XATTR) {
                    self.xattrs.retain(|known| known.name != name);
                    self.xattrs.push(Xattr { name: name.to_vec(), value: value.to_vec() });
                }
            }
        }
        Ok(())
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

fn number<T: std::str::FromStr>(value: &[u8]) -> Result<Option<T>, UntarError> {
    if value.is_empty() {
        return Ok(None);
    }
    let parsed = text(value).and_then(|t| t.parse().ok());
    parsed.map(Some).ok_or_else(|| malformed("a PAX record is no number, or too large"))
}

/// Decimal seconds; a fraction beyond nanoseconds is cut towards the past.
fn time(value: &[u8]) -> Result<(i64, u32), UntarError> {
    let broken = || malformed("a PAX record is no time");
    let value = text(value).ok_or_else(broken)?;
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let seconds: i64 = whole.parse().map_err(|_| broken())?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return Err(broken());
    }
    let nanoseconds: u32 = format!("{fraction:0<9.9}").parse().map_err(|_| broken())?;
    if nanoseconds == 0 || !whole.starts_with('-') {
        return Ok((seconds, nanoseconds));
    }
    // Before 1970 the fraction counts backwards: -1.25 is 0.75 after -2.
    Ok((seconds.checked_sub(1).ok_or_else(broken)?, 1_000_000_000 - nanoseconds))
}
