//! What a container uses, and for how long it has been idle.
//!
//! A worker looks at its containers at a steady interval. Each look gives the [`Use`] since the one before; an
//! [`IdleRule`] says whether that was activity; an [`IdleClock`] adds up the time without any. A look that is missing is
//! not idleness: nobody knows what happened meanwhile, so the clock begins anew.

use crate::id::ContainerId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// What a container used, on average, between two looks.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Use {
    /// CPU cores.
    pub cpu_cores: f64,
    /// Bytes a second over all its networks, both ways.
    pub network_bytes_per_second: f64,
    /// How busy the busiest of its GPUs was, 0 to 1; none where it has none, or the driver does not tell.
    pub gpu: Option<f64>,
    /// Terminals that are logged in, beside the one of its own first process.
    pub terminals: u32,
}

/// The last look at a container, as its node reported it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Look {
    /// The container.
    pub container: ContainerId,
    /// What it used since the look before.
    pub used: Use,
    /// For how long it has been idle by the rule of its project, or by the [usual](IdleRule::usual) one.
    pub idle: IdleClock,
    /// That rule.
    pub rule: IdleRule,
    /// When the report came, by the store's clock.
    pub at: Timestamp,
}

impl Look {
    /// Since when it has been idle, by the store's clock; none while it is active.
    pub fn idle_since(&self) -> Option<Timestamp> {
        let idle = self.idle.idle_for();
        (!idle.is_zero()).then(|| self.at.saturating_sub(idle).unwrap_or(Timestamp::MIN))
    }
}

/// How busy a node's GPUs are.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct GpuUse {
    /// By index, 0 to 1. A GPU that cannot tell is missing.
    pub busy: BTreeMap<u32, f64>,
}

/// When a container counts as idle: every threshold that is set must be undercut, by every look of the window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdleRule {
    /// Busy GPUs are activity from this share on, 0 to 1. Without effect on containers without GPUs.
    #[serde(default)]
    pub gpu_below: Option<f64>,
    /// CPU cores in use are activity from this number on.
    #[serde(default)]
    pub cpu_below: Option<f64>,
    /// Bytes a second over its networks are activity from this rate on.
    #[serde(default)]
    pub network_below: Option<f64>,
    /// Whether a logged-in terminal is activity.
    #[serde(default)]
    pub terminals: bool,
    /// For how long a container must have been idle.
    pub window_seconds: u64,
    /// How many looks must have found it idle, however long the window.
    #[serde(default = "IdleRule::samples_usual")]
    pub samples: u32,
}

/// Longest window: thirty days.
pub const WINDOW_SECONDS_MAX: u64 = 30 * 24 * 3600;
/// Most looks that a rule may ask for.
pub const SAMPLES_MAX: u32 = 10_000;

impl IdleRule {
    fn samples_usual() -> u32 {
        3
    }

    /// What counts as idle where a project says nothing: shown, and never acted upon.
    pub fn usual() -> Self {
        Self {
            gpu_below: Some(0.05),
            cpu_below: Some(0.1),
            network_below: Some(10_000.0),
            terminals: false,
            window_seconds: 30 * 60,
            samples: Self::samples_usual(),
        }
    }

    /// Refuses a rule that could never hold, or that would always.
    pub fn check(&self, window_seconds_min: u64) -> Result<(), String> {
        let thresholds = [
            ("gpu_below", self.gpu_below, 1.0),
            ("cpu_below", self.cpu_below, 10_000.0),
            ("network_below", self.network_below, 1e12),
        ];
        if thresholds.iter().all(|(_, value, _)| value.is_none()) {
            return Err(
                "an idle rule needs at least one of gpu_below, cpu_below and network_below".to_owned()
            );
        }
        for (name, value, max) in thresholds {
            if value.is_some_and(|v| !v.is_finite() || v <= 0.0 || v > max) {
                return Err(format!("{name} is above 0 and at most {max}"));
            }
        }
        if !(window_seconds_min..=WINDOW_SECONDS_MAX).contains(&self.window_seconds) {
            return Err(format!("window_seconds is between {window_seconds_min} and {WINDOW_SECONDS_MAX}"));
        }
        if !(1..=SAMPLES_MAX).contains(&self.samples) {
            return Err(format!("samples is between 1 and {SAMPLES_MAX}"));
        }
        Ok(())
    }

    /// What makes `used` activity, in words; none when the container was idle. `gpus` is how many it has.
    pub fn activity(&self, used: &Use, gpus: u32) -> Option<String> {
        let at_least = |value: f64, limit: Option<f64>| limit.is_some_and(|limit| value >= limit);
        if gpus > 0 {
            match used.gpu {
                Some(busy) if at_least(busy, self.gpu_below) => {
                    return Some(format!("its GPUs were {:.0} % busy", busy * 100.0));
                }
                // A training run that leaves CPU and network alone must not look idle because nobody could ask its GPUs.
                None if self.gpu_below.is_some() => {
                    return Some("nobody knows how busy its GPUs were".to_owned());
                }
                _ => {}
            }
        } else if self.cpu_below.is_none() && self.network_below.is_none() {
            return Some("the rule is about GPUs, and it has none".to_owned());
        }
        if at_least(used.cpu_cores, self.cpu_below) {
            return Some(format!("it used {:.2} CPU cores", used.cpu_cores));
        }
        if at_least(used.network_bytes_per_second, self.network_below) {
            return Some(format!(
                "{:.0} bytes a second went over its networks",
                used.network_bytes_per_second
            ));
        }
        (self.terminals && used.terminals > 0)
            .then(|| format!("terminals that are logged in: {}", used.terminals))
    }

    /// Whether `idle` is long enough, and was looked at often enough.
    pub fn holds(&self, idle: &IdleClock) -> bool {
        idle.idle_for() >= Duration::from_secs(self.window_seconds) && idle.samples >= self.samples
    }
}

impl fmt::Display for IdleRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            self.gpu_below.map(|v| format!("GPUs below {:.0} %", v * 100.0)),
            self.cpu_below.map(|v| format!("CPU below {v} cores")),
            self.network_below.map(|v| format!("network below {v} bytes/s")),
            self.terminals.then(|| "no terminal logged in".to_owned()),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        write!(f, "{} for {} min", parts.join(", "), self.window_seconds / 60)
    }
}

/// For how long a container has been idle without a gap.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct IdleClock {
    idle_ms: u64,
    /// Looks in a row that found it idle.
    pub samples: u32,
    /// What was the last activity, in words; none when none was seen.
    #[serde(default)]
    pub last_activity: Option<String>,
}

/// How many intervals may pass between two looks before the time between them counts as unknown.
const GAP_INTERVALS: u32 = 3;

impl IdleClock {
    /// How long it has been idle.
    pub fn idle_for(&self) -> Duration {
        Duration::from_millis(self.idle_ms)
    }

    /// Adds a look, `elapsed` after the one before, where looks are meant to come every `interval`.
    pub fn look(&mut self, elapsed: Duration, interval: Duration, activity: Option<String>) {
        if elapsed > interval * GAP_INTERVALS {
            *self = Self { last_activity: self.last_activity.take(), ..Self::default() };
        } else if activity.is_none() {
            self.idle_ms = self.idle_ms.saturating_add(elapsed.as_millis() as u64);
            self.samples = self.samples.saturating_add(1);
            return;
        }
        if activity.is_some() {
            *self = Self { last_activity: activity, ..Self::default() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule() -> IdleRule {
        IdleRule {
            gpu_below: Some(0.05),
            cpu_below: Some(0.2),
            network_below: Some(1000.0),
            terminals: true,
            window_seconds: 600,
            samples: 5,
        }
    }

    fn idle() -> Use {
        Use { gpu: Some(0.0), ..Use::default() }
    }

    #[test]
    fn each_threshold_alone_is_activity() {
        let busy = |used: Use| rule().activity(&used, 1);
        assert_eq!(busy(idle()), None);
        for (used, words) in [
            (Use { gpu: Some(0.05), ..idle() }, "5 % busy"),
            (Use { cpu_cores: 0.2, ..idle() }, "0.20 CPU"),
            (Use { network_bytes_per_second: 1000.0, ..idle() }, "1000 bytes"),
            (Use { terminals: 1, ..idle() }, "logged in: 1"),
        ] {
            let why = busy(used).unwrap_or_default();
            assert!(why.contains(words), "{used:?}: {why}");
        }
        // What was not asked for does not count.
        let only_cpu = IdleRule { gpu_below: None, network_below: None, terminals: false, ..rule() };
        let loud = Use { gpu: Some(1.0), network_bytes_per_second: 1e9, terminals: 3, cpu_cores: 0.1 };
        assert_eq!(only_cpu.activity(&loud, 1), None);
    }

    #[test]
    fn what_cannot_be_told_of_gpus_is_not_idleness() {
        let unknown = Use { gpu: None, ..idle() };
        assert!(rule().activity(&unknown, 1).is_some_and(|w| w.contains("nobody knows")));
        assert_eq!(rule().activity(&unknown, 0), None, "one without GPUs has none to ask");
        let no_gpus = IdleRule { gpu_below: None, ..rule() };
        assert_eq!(no_gpus.activity(&unknown, 1), None, "a rule about CPU and network does not ask for them");
        let gpus_only = IdleRule { cpu_below: None, network_below: None, ..rule() };
        assert!(gpus_only.activity(&unknown, 1).is_some_and(|w| w.contains("nobody knows")));
        assert!(gpus_only.activity(&idle(), 0).is_some_and(|w| w.contains("has none")));
        assert_eq!(gpus_only.activity(&idle(), 1), None);
    }

    #[test]
    fn a_rule_that_says_nothing_is_refused() {
        assert!(rule().check(60).is_ok());
        for (bad, words) in [
            (IdleRule { gpu_below: None, cpu_below: None, network_below: None, ..rule() }, "at least one"),
            (IdleRule { gpu_below: Some(1.5), ..rule() }, "gpu_below"),
            (IdleRule { cpu_below: Some(0.0), ..rule() }, "cpu_below"),
            (IdleRule { network_below: Some(f64::NAN), ..rule() }, "network_below"),
            (IdleRule { window_seconds: 59, ..rule() }, "window_seconds"),
            (IdleRule { samples: 0, ..rule() }, "samples"),
        ] {
            assert!(bad.check(60).unwrap_err().contains(words), "{bad:?}");
        }
    }

    #[test]
    fn idleness_is_long_enough_and_seen_often_enough() {
        let every = Duration::from_mins(1);
        let mut clock = IdleClock::default();
        for _ in 0..9 {
            clock.look(every, every, None);
        }
        assert!(!rule().holds(&clock), "nine minutes of ten");
        clock.look(every, every, None);
        assert!(rule().holds(&clock));
        let often = IdleRule { samples: 11, ..rule() };
        assert!(!often.holds(&clock), "too few looks");
    }

    #[test]
    fn a_gap_is_not_idleness_and_activity_begins_anew() {
        let every = Duration::from_mins(1);
        let mut clock = IdleClock::default();
        clock.look(every, every, Some("it used 2.00 CPU cores".into()));
        clock.look(every, every, None);
        clock.look(every * 3, every, None);
        assert_eq!((clock.idle_for(), clock.samples), (every * 4, 2));
        clock.look(every * 4, every, None);
        assert_eq!((clock.idle_for(), clock.samples), (Duration::ZERO, 0));
        assert_eq!(clock.last_activity.as_deref(), Some("it used 2.00 CPU cores"));
        clock.look(every, every, None);
        clock.look(every, every, Some("x".into()));
        assert_eq!((clock.idle_for(), clock.last_activity.as_deref()), (Duration::ZERO, Some("x")));
    }

    proptest! {
        /// The clock never shows more than the time since the last activity or gap.
        #[test]
        fn never_more_than_has_passed(looks in proptest::collection::vec((1u64..500, any::<bool>()), 0..50)) {
            let every = Duration::from_mins(1);
            let (mut clock, mut since) = (IdleClock::default(), Duration::ZERO);
            for (seconds, active) in looks {
                let elapsed = Duration::from_secs(seconds);
                clock.look(elapsed, every, active.then(|| "busy".to_owned()));
                since = if active || elapsed > every * 3 { Duration::ZERO } else { since + elapsed };
                prop_assert_eq!(clock.idle_for(), since);
            }
        }
    }
}
