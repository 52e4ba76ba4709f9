//! Creation comes before the first statuses of what was created: who waits for a set wants to see first of all what there is, and each status
//! costs the API server as much as one more creation. Statuses of others give way to nothing.

use std::{collections::HashSet, time::Duration};

use tokio::time::Instant;

use crate::engine::WatchKey;

/// No longer than this: where creation takes longer, statuses are written beside it.
const LONGEST: Duration = Duration::from_secs(20);

/// Whether a set goes on creating children, and which of them wait for the end of that.
#[derive(Debug, Default)]
pub struct Creation {
    since: Option<Instant>,
    waiting: HashSet<WatchKey>,
}

impl Creation {
    /// There is more to be created at once, or (not `goes_on`) there is not. Returns the children that wait no longer.
    pub fn turn(&mut self, goes_on: bool, now: Instant) -> HashSet<WatchKey> {
        self.since = goes_on.then(|| self.since.unwrap_or(now));
        if self.until(now).is_some() { HashSet::new() } else { std::mem::take(&mut self.waiting) }
    }

    /// Until when children wait that have no status yet; none where they need not.
    #[must_use]
    pub fn until(&self, now: Instant) -> Option<Instant> {
        self.since.map(|since| since + LONGEST).filter(|until| *until > now)
    }

    /// A child waits.
    pub fn put_off(&mut self, child: WatchKey) {
        self.waiting.insert(child);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn children_wait_while_more_are_created_and_not_for_ever() {
        let (mut creation, start) = (Creation::default(), Instant::now());
        let child = |name: &str| WatchKey(name.into());
        assert_eq!(creation.until(start), None);
        assert!(creation.turn(true, start).is_empty());
        creation.put_off(child("a"));
        creation.put_off(child("a"));
        let later = start + LONGEST / 2;
        assert_eq!((creation.turn(true, later).len(), creation.until(later)), (0, Some(start + LONGEST)));
        assert_eq!(creation.turn(false, later), HashSet::from([child("a")]));
        assert_eq!((creation.turn(false, later).len(), creation.until(later)), (0, None));
        // Another time.
        creation.turn(true, later);
        creation.put_off(child("b"));
        assert_eq!(creation.until(later + LONGEST), None);
        assert_eq!(creation.turn(true, later + LONGEST), HashSet::from([child("b")]));
    }
}
