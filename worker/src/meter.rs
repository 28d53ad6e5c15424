//! How far a step is, and how fast it goes.

use mothball_domain::job::Progress;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// The stretch of time that the rate is taken over.
const WINDOW: Duration = Duration::from_secs(10);

/// Turns byte counts into progress with a rate and the time left.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    samples: VecDeque<(Instant, u64)>,
}

impl Meter {
    /// The progress at `now`, with `done` of `total` bytes done.
    pub(crate) fn at(&mut self, now: Instant, done: u64, total: u64) -> Progress {
        if self.samples.back().is_some_and(|(_, last)| done < *last) {
            self.samples.clear();
        }
        self.samples.push_back((now, done));
        while self.samples.len() > 2 && self.samples.front().is_some_and(|(at, _)| now - *at > WINDOW) {
            self.samples.pop_front();
        }
        // Docker reports many times a second; a few samples a second tell the rate as well.
        if self.samples.len() > 200 {
            self.samples.remove(self.samples.len() / 2);
        }
        let rate = self.samples.front().map_or(0.0, |(at, first)| {
            let seconds = (now - *at).as_secs_f64();
            if seconds > 0.0 { (done - first) as f64 / seconds } else { 0.0 }
        });
        let left = total.saturating_sub(done);
        let eta_seconds = (rate >= 1.0).then(|| (left as f64 / rate).ceil() as u64);
        Progress {
            bytes_done: done,
            bytes_total: total.max(done),
            bytes_per_second: rate as u64,
            eta_seconds,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_of_the_last_seconds_and_a_new_step_starts_anew() {
        let start = Instant::now();
        let mut meter = Meter::default();
        assert_eq!(meter.at(start, 0, 1000).eta_seconds, None);
        let progress = meter.at(start + Duration::from_secs(5), 500, 1000);
        assert_eq!((progress.bytes_per_second, progress.eta_seconds), (100, Some(5)));
        let progress = meter.at(start + Duration::from_secs(6), 0, 50);
        assert_eq!((progress.bytes_done, progress.bytes_per_second), (0, 0));
    }

    #[test]
    fn it_is_bounded_and_never_shows_more_than_all() {
        let start = Instant::now();
        let mut meter = Meter::default();
        for i in 0..10_000u64 {
            let progress = meter.at(start + Duration::from_millis(i), i, 10);
            assert!(progress.bytes_done <= progress.bytes_total);
        }
        assert!(meter.samples.len() <= 200);
    }
}
