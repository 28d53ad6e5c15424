//! Times as people write them in configuration: `"30s"`, `"1h 30m"`, `"90d"`.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// A stretch of time, written with units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Span(pub(crate) Duration);

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        humantime::parse_duration(&text).map(Self).map_err(|_| {
            format!("{text:?} is not a time: write it with units, as in \"30s\", \"10m\" or \"90d\"")
        })
    }
}

impl From<Span> for String {
    fn from(span: Span) -> String {
        span.to_string()
    }
}

/// In days, hours, minutes, seconds and milliseconds; months and years, which humantime would write, are of no
/// certain length.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.0.as_millis();
        let mut parts = Vec::new();
        for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
            if left >= size {
                parts.push(format!("{}{unit}", left / size));
                left %= size;
            }
        }
        if parts.is_empty() { f.write_str("0s") } else { f.write_str(&parts.join(" ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_written_alike() {
        for text in ["30s", "500ms", "10m", "90d", "1h 30m", "0s"] {
            assert_eq!(Span::try_from(text.to_owned()).unwrap().to_string(), text);
        }
        for bad in ["", "30", "soon", "-1s"] {
            assert!(Span::try_from(bad.to_owned()).unwrap_err().contains("with units"), "{bad}");
        }
    }
}
