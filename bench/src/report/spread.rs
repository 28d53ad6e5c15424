//! A few measurements as one: their median, and how far they lie apart.

use super::units;

/// Median, least and greatest of at least one measurement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    /// The middle one; of an even number, the mean of the middle two.
    pub(crate) median: f64,
    /// The least.
    pub(crate) min: f64,
    /// The greatest.
    pub(crate) max: f64,
}

impl Spread {
    /// Of these; none of nothing.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_unstable_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        Some(Self { median: f64::midpoint(low, high), min, max })
    }

    /// The median in seconds, with the range where there is one.
    pub(crate) fn seconds(self) -> String {
        let median = units::seconds(self.median);
        if units::seconds(self.min) == units::seconds(self.max) {
            return median;
        }
        format!("{median} ({}–{})", units::number(self.min), units::number(self.max))
    }

    /// The median of bytes.
    pub(crate) fn bytes(self) -> String {
        units::bytes(self.median)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(Spread::of([]), None);
        let median = |values: &[f64]| Spread::of(values.iter().copied()).unwrap().median;
        assert!((median(&[7.0]) - 7.0).abs() < 1e-9);
        assert!((median(&[9.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0, 3.0, 100.0]) - 3.5).abs() < 1e-9);
    }

    #[test]
    fn the_range_is_shown_where_there_is_one() {
        assert_eq!(Spread::of([154.0, 150.2, 160.9]).unwrap().seconds(), "154 s (150–161)");
        assert_eq!(Spread::of([0.25]).unwrap().seconds(), "0.25 s");
        assert_eq!(Spread::of([7.801, 7.803]).unwrap().seconds(), "7.80 s");
    }
}
