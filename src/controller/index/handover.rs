//! What belongs to a bucket: what a replica takes over with it, and what it hands over.

use super::{ConnectionEntry, Index};
use crate::engine::{ConnectionId, WatchKey};

/// The objects of a bucket.
#[derive(Debug, Default)]
pub struct Belongings {
    /// Connections of either kind that are there.
    pub connections: Vec<ConnectionId>,
    /// Watches. Those beyond a limit are among them, whichever bucket they belong to.
    pub watches: Vec<WatchKey>,
    /// Sets.
    pub sets: Vec<WatchKey>,
}

impl Index {
    /// What names these connections.
    #[must_use]
    pub fn belongings(&self, is_ours: impl Fn(&ConnectionId) -> bool) -> Belongings {
        let inside = self.watches.iter().filter(|(_, entry)| is_ours(&entry.object.connection())).map(|(key, _)| key);
        let is_our_set = |key: &WatchKey| self.sets.get(key).is_some_and(|entry| is_ours(&entry.object.connection()));
        Belongings {
            connections: self.connections.keys().filter(|id| is_ours(id)).cloned().collect(),
            watches: inside.chain(self.outside.keys()).cloned().collect(),
            sets: self.sets.keys(None).into_iter().filter(is_our_set).collect(),
        }
    }

    /// Another replica has written about these objects: what was learnt before counts no more.
    pub fn begin_anew(&mut self, what: &Belongings) {
        for id in &what.connections {
            if let Some(entry) = self.connections.get_mut(id) {
                entry.begin_anew();
            }
        }
        for key in &what.watches {
            self.read(key);
            if let Some(entry) = self.watches.get_mut(key) {
                entry.begin_anew();
            }
        }
        for key in &what.sets {
            if let Some(entry) = self.sets.get_mut(key) {
                entry.set_registered(None);
            }
        }
    }
}

impl ConnectionEntry {
    fn begin_anew(&mut self) {
        (self.availability, self.health, self.fingerprint, self.failures) = (None, None, None, 0);
    }
}
