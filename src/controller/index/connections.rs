//! The connections of the index, and who uses them.

use std::{collections::HashSet, sync::Arc};

use super::{
    super::{objects::ConnectionObject, resolve::Compiled},
    ConnectionEntry, ConnectionNews, Index,
};
use crate::{
    api::ConnectionStatus,
    domain::availability::Unavailable,
    engine::{ConnectionId, WatchKey},
};

impl Index {
    /// Takes in a connection, as the API server shows it.
    pub fn put_connection(
        &mut self,
        id: &ConnectionId,
        object: ConnectionObject,
        status: Option<ConnectionStatus>,
        version: u64,
    ) -> ConnectionNews {
        let object = Arc::new(object);
        let displaced = self.quotas.enter_connection(&object);
        let users = self.users.get(id).into_iter().flatten();
        self.quotas.limit_users(&object, users.filter_map(|key| self.watches.get(key)).map(|entry| &*entry.object));
        let news = match self.connections.get_mut(id) {
            Some(entry) if entry.object.identity.uid == object.identity.uid => {
                let mut news = ConnectionNews::Nothing;
                if version >= entry.version {
                    if entry.status != status {
                        news = ConnectionNews::Status;
                    }
                    (entry.status, entry.version) = (status, version);
                }
                if entry.object.generation != object.generation {
                    news = ConnectionNews::Object;
                }
                entry.object = object;
                news
            }
            _ => {
                let entry = ConnectionEntry::new(object, status, version);
                if let Some(predecessor) = self.connections.insert(id.clone(), entry) {
                    let promoted = self.quotas.leave_connection(&predecessor.object);
                    self.note_moved(promoted);
                }
                ConnectionNews::Object
            }
        };
        self.note_moved(displaced);
        news
    }

    /// What a connection's specification comes to: made anew only when the object has another generation.
    ///
    /// # Errors
    /// Why the connection cannot be used, and what to do.
    pub fn compiled(&mut self, id: &ConnectionId, object: &ConnectionObject) -> Result<Arc<Compiled>, Unavailable> {
        let entry = self.connections.get_mut(id);
        if let Some(kept) = entry.as_ref().and_then(|entry| entry.compiled.as_ref()).filter(|kept| kept.is_of(object)) {
            return Ok(Arc::clone(kept));
        }
        let compiled = Arc::new(Compiled::new(object)?);
        if let Some(entry) = entry {
            entry.compiled = Some(Arc::clone(&compiled));
        }
        Ok(compiled)
    }

    /// Forgets a connection.
    pub fn remove_connection(&mut self, id: &ConnectionId) {
        let Some(entry) = self.connections.remove(id) else { return };
        let promoted = self.quotas.leave_connection(&entry.object);
        self.note_moved(promoted);
    }

    /// Why a connection is not served, and what to do about it; none where it is.
    #[must_use]
    pub fn connection_refusal(&self, object: &ConnectionObject) -> Option<String> {
        self.quotas.connection_refusal(object)
    }

    /// The name of a connection's provider, where that is known.
    #[must_use]
    pub fn provider(&self, id: &ConnectionId) -> Option<&str> {
        Some(self.connections.get(id)?.compiled.as_ref()?.provider())
    }

    /// The watches that name a connection.
    #[must_use]
    pub fn users(&self, id: &ConnectionId) -> Vec<WatchKey> {
        self.users.get(id).map(|users| users.iter().cloned().collect()).unwrap_or_default()
    }

    /// How many watches of a connection are not finished, and how many are.
    #[must_use]
    pub fn counts(&self, id: &ConnectionId) -> (usize, usize) {
        let users = self.users.get(id).into_iter().flatten();
        let finished =
            users.filter(|key| self.watches.get(*key).is_some_and(|entry| entry.published.is_finished())).count();
        (self.users.get(id).map_or(0, HashSet::len) - finished, finished)
    }

    /// Has the connection of this UID looked at. That one has to be searched for is rare: another has passed a limit.
    fn note_moved(&mut self, uid: Option<WatchKey>) {
        let Some(uid) = uid else { return };
        let is_it = |entry: &&ConnectionEntry| entry.object.identity.uid == uid;
        let moved = self.connections.values().find(is_it).map(|entry| entry.object.id());
        self.moved.connections.extend(moved);
    }
}
