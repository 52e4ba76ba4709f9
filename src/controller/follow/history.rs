//! Whether the API server still tells the history that was told before.
//!
//! Resource versions of a collection only ever rise. When etcd was restored from a backup they go back, and a watch from a version of
//! before waits in silence until the new history has passed it, without an error. So each time a watch is begun again, the version
//! of the collection and the object that changed last are compared with what was told.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::controller::objects::version;

/// What was told of one collection.
#[derive(Debug, Default)]
pub(super) struct History {
    /// The highest resource version of a list, an event or a bookmark.
    seen: u64,
    newest: Option<Change>,
}

/// The last change that was told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) namespace: Option<String>,
    pub(super) name: String,
    uid: String,
    version: u64,
    is_deleted: bool,
}

/// What a comparison shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    /// The history goes on from what was told.
    Continued,
    /// It may, or may not.
    Uncertain,
    /// It is another history.
    Replaced,
}

impl History {
    /// From where a watch goes on.
    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    /// The last change that was told of; none for a collection that has been empty.
    pub(super) fn newest(&self) -> Option<&Change> {
        self.newest.as_ref()
    }

    /// The collection is at this version, or a bookmark says so. Returns whether that went back.
    pub(super) fn reached(&mut self, version: u64) -> bool {
        let is_back = version < self.seen;
        self.seen = self.seen.max(version);
        is_back
    }

    /// An object was listed, has changed or was deleted. Returns whether that was before what was seen: as it is for most of a list, but
    /// never in a watch.
    pub(super) fn changed(&mut self, meta: &ObjectMeta, is_deleted: bool) -> bool {
        let version = version(meta);
        let is_back = self.reached(version);
        if self.newest.as_ref().is_some_and(|newest| version < newest.version) {
            return is_back;
        }
        if let (Some(name), Some(uid)) = (&meta.name, &meta.uid) {
            let (namespace, name, uid) = (meta.namespace.clone(), name.clone(), uid.clone());
            self.newest = Some(Change { namespace, name, uid, version, is_deleted });
        }
        is_back
    }

    /// Forgets what was told: another history begins.
    pub(super) fn begin_again(&mut self) {
        *self = Self::default();
    }

    /// Compares with the present: the version of the collection, and what is there now under the name of [`Self::newest`].
    pub(super) fn compare(&self, version: u64, found: Option<&ObjectMeta>) -> Comparison {
        if version < self.seen {
            return Comparison::Replaced;
        }
        let Some(newest) = &self.newest else { return Comparison::Continued };
        let same = found.filter(|meta| meta.uid.as_deref() == Some(&newest.uid));
        match (newest.is_deleted, same.map(self::version)) {
            (false, Some(now)) if now == newest.version => Comparison::Continued,
            (false, Some(now)) if now < newest.version => Comparison::Replaced,
            // It came to life again.
            (true, Some(_)) => Comparison::Replaced,
            (true, None) => Comparison::Continued,
            // Changed or deleted since; or never made.
            (false, _) => Comparison::Uncertain,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(name: &str, uid: &str, version: u64) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.to_owned()),
            uid: Some(uid.to_owned()),
            resource_version: Some(version.to_string()),
            ..ObjectMeta::default()
        }
    }

    fn told(is_deleted: bool) -> History {
        let mut history = History::default();
        history.changed(&meta("a", "u1", 90), false);
        history.changed(&meta("b", "u2", 100), is_deleted);
        history.changed(&meta("c", "u3", 70), false);
        assert!(!history.reached(120));
        history
    }

    #[test]
    fn a_version_that_goes_back_is_another_history() {
        let mut history = told(false);
        assert!(!history.reached(120));
        assert!(history.reached(119));
        assert_eq!(history.compare(119, Some(&meta("b", "u2", 100))), Comparison::Replaced);
        history.begin_again();
        assert_eq!(history.compare(119, None), Comparison::Continued);
    }

    #[test]
    fn a_history_that_has_overtaken_the_old_one_shows_in_the_object_that_changed_last() {
        for (found, expected) in [
            (Some(meta("b", "u2", 100)), Comparison::Continued),
            (Some(meta("b", "u2", 80)), Comparison::Replaced),
            (Some(meta("b", "u2", 130)), Comparison::Uncertain),
            (Some(meta("b", "other", 130)), Comparison::Uncertain),
            (None, Comparison::Uncertain),
        ] {
            assert_eq!(told(false).compare(140, found.as_ref()), expected, "{found:?}");
        }
    }

    #[test]
    fn what_was_deleted_stays_so_in_the_same_history() {
        for (found, expected) in [
            (None, Comparison::Continued),
            (Some(meta("b", "other", 130)), Comparison::Continued),
            (Some(meta("b", "u2", 80)), Comparison::Replaced),
        ] {
            assert_eq!(told(true).compare(140, found.as_ref()), expected, "{found:?}");
        }
    }
}
