//! What became of each child of a set, by our own watch of the `TaskWatch` objects.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use super::super::{
    history::{condition, is_finished, parse_time},
    upstream::text,
};

/// A `TaskWatch` of a set.
#[derive(Clone, Debug)]
pub(super) struct Life {
    pub(super) uid: String,
    pub(super) name: String,
    pub(super) set: String,
    pub(super) connection: String,
    pub(super) task: String,
    pub(super) made: i64,
    /// When its task ended, as it says.
    pub(super) ended: Option<i64>,
}

/// One that is no more.
#[derive(Clone, Debug)]
pub(super) struct Death {
    pub(super) life: Life,
    pub(super) at: i64,
    /// A person deleted it.
    pub(super) by_hand: bool,
    /// It went while our watch was interrupted: what it said last is not known.
    pub(super) unseen: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub(in super::super) struct Children(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    made: usize,
    lives: HashMap<String, Life>,
    deaths: Vec<Death>,
    by_hand: HashSet<String>,
    /// Those that the list that is being read has not shown yet.
    unlisted: HashSet<String>,
}

impl Children {
    /// Takes in what our watch shows of any `TaskWatch`.
    pub(in super::super) fn see(&self, object: &Value) {
        let Some(life) = Life::read(object) else { return };
        let mut inner = self.lock();
        inner.unlisted.remove(&life.uid);
        if inner.lives.insert(life.uid.clone(), life).is_none() {
            inner.made += 1;
        }
    }

    /// The object of this UID is no more.
    pub(in super::super) fn is_gone(&self, uid: &str, at: i64) {
        self.lock().bury(uid, at, false);
    }

    /// Our watch begins anew with a list.
    pub(in super::super) fn are_listed_anew(&self) {
        let mut inner = self.lock();
        inner.unlisted = inner.lives.keys().cloned().collect();
    }

    /// The list is at its end.
    pub(in super::super) fn are_listed(&self, at: i64) {
        let mut inner = self.lock();
        for uid in std::mem::take(&mut inner.unlisted) {
            inner.bury(&uid, at, true);
        }
    }

    /// Those that there are.
    pub(super) fn living(&self) -> Vec<Life> {
        self.lock().lives.values().cloned().collect()
    }

    /// A person is about to delete it.
    pub(super) fn is_deleted_by_hand(&self, uid: &str) {
        self.lock().by_hand.insert(uid.to_owned());
    }

    /// How many were made, and those that are no more.
    pub(super) fn past(&self) -> (usize, Vec<Death>) {
        let inner = self.lock();
        (inner.made, inner.deaths.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn bury(&mut self, uid: &str, at: i64, unseen: bool) {
        if let Some(life) = self.lives.remove(uid) {
            let by_hand = self.by_hand.contains(uid);
            self.deaths.push(Death { life, at, by_hand, unseen });
        }
    }
}

impl Life {
    /// None for a `TaskWatch` that is no set's.
    pub(super) fn read(object: &Value) -> Option<Self> {
        let (metadata, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
        let owner = metadata["ownerReferences"].as_array()?.iter().find(|owner| owner["kind"] == "TaskWatchSet")?;
        let finished = condition(status, "Finished").filter(|_| is_finished(status));
        let ended = finished.and_then(|finished| {
            status["completionTime"].as_str().or(finished["lastTransitionTime"].as_str()).and_then(parse_time)
        });
        Some(Self {
            uid: text(&metadata["uid"]),
            name: text(&metadata["name"]),
            set: text(&owner["name"]),
            connection: text(&spec["connectionRef"]["name"]),
            task: text(&spec["task"]["id"]),
            made: metadata["creationTimestamp"].as_str().and_then(parse_time).unwrap_or_default(),
            ended,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_death_is_noted_once_and_how_it_was_seen() {
        let children = Children::default();
        let object = |uid: &str, kind: &str| {
            json!({"metadata": {"uid": uid, "ownerReferences": [{"kind": kind, "name": "s"}]},
                "status": {"completionTime": "1970-01-01T00:00:05Z", "conditions": [{"type": "Finished", "status": "True"}]}})
        };
        for (uid, kind) in [("a", "TaskWatchSet"), ("b", "TaskWatchSet"), ("c", "TaskWatchSet"), ("d", "Job")] {
            children.see(&object(uid, kind));
        }
        children.is_deleted_by_hand("b");
        children.is_gone("b", 7);
        children.is_gone("b", 8);
        children.is_gone("d", 8);
        // While the watch was interrupted, one went and one stayed.
        children.are_listed_anew();
        children.see(&object("c", "TaskWatchSet"));
        children.are_listed(9);
        let (made, deaths) = children.past();
        let seen: Vec<_> = deaths.iter().map(|d| (d.life.uid.as_str(), d.at, d.by_hand, d.unseen)).collect();
        assert_eq!((made, seen), (3, vec![("b", 7, true, false), ("a", 9, false, true)]));
        assert_eq!(deaths[0].life.ended, Some(5000));
        assert_eq!(children.living().len(), 1);
    }
}
