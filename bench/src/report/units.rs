//! Numbers for people: three digits say all that a few rounds can.

/// A number with three digits, and none that pretend.
pub(crate) fn number(value: f64) -> String {
    let decimals = match value.abs() {
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        v if v >= 0.0095 || v == 0.0 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

/// Seconds.
pub(crate) fn seconds(value: f64) -> String {
    format!("{} s", number(value))
}

/// Bytes, in units of a thousand.
pub(crate) fn bytes(value: f64) -> String {
    let (scale, unit) = match value.abs() {
        v if v >= 999.5e6 => (1e9, "GB"),
        v if v >= 999.5e3 => (1e6, "MB"),
        v if v >= 1e3 => (1e3, "kB"),
        _ => return format!("{value:.0} B"),
    };
    format!("{} {unit}", number(value / scale))
}

/// A factor: how many times as much.
pub(crate) fn times(value: f64) -> String {
    format!("{}x", if value >= 9.95 { format!("{value:.0}") } else { format!("{value:.1}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits() {
        let cases = [
            (0.0, "0.00"),
            (0.004, "0.004"),
            (0.491, "0.49"),
            (7.8, "7.80"),
            (34.83, "34.8"),
            (154.2, "154"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
        assert_eq!(number(-34.83), "-34.8");
        assert_eq!(number(99.97), "100");
    }

    #[test]
    fn sizes_and_factors() {
        let cases = [
            (0.0, "0 B"),
            (999.0, "999 B"),
            (31.0e6, "31.0 MB"),
            (2.65e9, "2.65 GB"),
            (999.9e6, "1.00 GB"),
            (-4096.0, "-4.10 kB"),
        ];
        for (value, text) in cases {
            assert_eq!(bytes(value), text);
        }
        assert_eq!(
            (times(19.74).as_str(), times(4.98).as_str(), times(1.0).as_str()),
            ("20x", "5.0x", "1.0x")
        );
    }
}
