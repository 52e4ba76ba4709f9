//! How many objects of each namespace are served. Beyond the limit the older ones win, so that who comes last is told, and nobody
//! is put out by a newcomer.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use jiff::Timestamp;

use crate::engine::WatchKey;

/// An object's rank: its creation, then its UID.
type Rank = (i64, WatchKey);

/// Who is within the limit of each namespace.
#[derive(Debug)]
pub struct Census {
    /// Per namespace.
    limit: usize,
    namespaces: HashMap<Arc<str>, Members>,
}

#[derive(Debug, Default)]
struct Members {
    within: BTreeSet<Rank>,
    beyond: BTreeSet<Rank>,
}

impl Census {
    /// A census of nobody yet, with room for so many objects of each namespace.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, namespaces: HashMap::new() }
    }

    /// The limit.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Counts an object; once, however often it comes. Returns whether it is within the limit, and who is not any more because of it.
    pub fn enter(&mut self, namespace: &Arc<str>, created: Timestamp, key: &WatchKey) -> (bool, Option<WatchKey>) {
        let members = self.namespaces.entry(Arc::clone(namespace)).or_default();
        let rank = (created.as_second(), key.clone());
        if members.within.contains(&rank) {
            return (true, None);
        }
        if members.beyond.contains(&rank) {
            return (false, None);
        }
        if members.within.len() < self.limit {
            members.within.insert(rank);
            return (true, None);
        }
        if members.within.last().is_some_and(|last| rank < *last) {
            let displaced = members.within.pop_last();
            members.within.insert(rank);
            members.beyond.extend(displaced.clone());
            return (true, displaced.map(|(_, key)| key));
        }
        members.beyond.insert(rank);
        (false, None)
    }

    /// Whether an object is within the limit; so is one that has not been counted yet.
    #[must_use]
    pub fn admits(&self, namespace: &Arc<str>, created: Timestamp, key: &WatchKey) -> bool {
        let members = self.namespaces.get(namespace);
        members.is_none_or(|members| !members.beyond.contains(&(created.as_second(), key.clone())))
    }

    /// Forgets an object. Returns who comes within the limit in its place.
    pub fn leave(&mut self, namespace: &Arc<str>, created: Timestamp, key: &WatchKey) -> Option<WatchKey> {
        let members = self.namespaces.get_mut(namespace)?;
        let rank = (created.as_second(), key.clone());
        let promoted = if members.within.remove(&rank) { members.beyond.pop_first() } else { None };
        members.beyond.remove(&rank);
        members.within.extend(promoted.clone());
        if members.within.is_empty() && members.beyond.is_empty() {
            self.namespaces.remove(namespace);
        }
        promoted.map(|(_, key)| key)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(number: i64) -> WatchKey {
        WatchKey(Arc::from(format!("{number:03}")))
    }

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_second(secs).unwrap()
    }

    #[test]
    fn the_older_ones_are_served_and_others_when_these_go() {
        let mut census = Census::new(2);
        let (mine, other) = (Arc::from("mine"), Arc::from("other"));
        assert_eq!(census.enter(&mine, at(30), &key(3)), (true, None));
        assert_eq!(census.enter(&mine, at(20), &key(2)), (true, None));
        assert_eq!(census.enter(&mine, at(40), &key(4)), (false, None));
        assert_eq!(census.enter(&mine, at(40), &key(4)), (false, None), "each counts once");
        assert_eq!(census.enter(&mine, at(10), &key(1)), (true, Some(key(3))), "listed later, made earlier");
        assert_eq!(census.enter(&other, at(50), &key(5)), (true, None), "another namespace");
        assert_eq!(census.leave(&mine, at(40), &key(4)), None);
        assert_eq!(census.leave(&mine, at(10), &key(1)), Some(key(3)));
        assert_eq!(census.leave(&mine, at(20), &key(2)), None);
    }

    proptest! {
        #[test]
        fn those_within_are_always_the_oldest(
            steps in proptest::collection::vec((any::<bool>(), 0_i64..20), 0..100), limit in 0_usize..8,
        ) {
            let namespace = Arc::from("n");
            let mut census = Census::new(limit);
            let mut members = BTreeSet::new();
            let mut served = BTreeSet::new();
            for (comes, number) in steps {
                let rank = (number / 2, key(number));
                if comes {
                    let (is_within, displaced) = census.enter(&namespace, at(rank.0), &rank.1);
                    members.insert(rank.clone());
                    if is_within {
                        served.insert(rank.1.clone());
                    }
                    if let Some(key) = displaced {
                        served.remove(&key);
                    }
                } else {
                    members.remove(&rank);
                    served.remove(&rank.1);
                    served.extend(census.leave(&namespace, at(rank.0), &rank.1));
                }
                let oldest: BTreeSet<_> = members.iter().take(limit).map(|(_, key)| key.clone()).collect();
                prop_assert_eq!(&served, &oldest);
            }
            for (created, key) in members {
                census.leave(&namespace, at(created), &key);
            }
            prop_assert!(census.namespaces.is_empty());
        }
    }
}
