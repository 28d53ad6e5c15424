//! How many event streams are open: a bound for all, and one for each user.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The seats. A clone counts the same ones.
#[derive(Debug, Clone)]
pub(crate) struct Streams {
    all: usize,
    per_user: usize,
    taken: Arc<Mutex<HashMap<String, usize>>>,
}

/// A seat; leaving it gives it back.
#[derive(Debug)]
pub(crate) struct Seat {
    user: String,
    streams: Streams,
}

impl Streams {
    pub(crate) fn new(all: usize, per_user: usize) -> Self {
        Self { all, per_user, taken: Arc::default() }
    }

    /// Takes a seat, if one is free.
    pub(crate) fn sit_down(&self, user: &str) -> Option<Seat> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.get(user).copied().unwrap_or(0);
        if own >= self.per_user || taken.values().sum::<usize>() >= self.all {
            return None;
        }
        taken.insert(user.to_owned(), own + 1);
        Some(Seat { user: user.to_owned(), streams: self.clone() })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.streams.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(&self.user) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                taken.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_bounded_and_given_back() {
        let streams = Streams::new(3, 2);
        let first = streams.sit_down("ann").unwrap();
        let _second = streams.sit_down("ann").unwrap();
        assert!(streams.sit_down("ann").is_none(), "the user's own bound");
        let _third = streams.sit_down("bob").unwrap();
        assert!(streams.sit_down("eve").is_none(), "the bound for all");
        drop(first);
        assert!(streams.sit_down("ann").is_some());
    }
}
