//! What the controller wants of a connection, on its way to the actor.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use tokio::sync::Notify;

use super::{Open, Subscription, WatchKey};

use crate::sync::lock;

/// The newest of what is wanted, for each watch: bounded by the number of watches, never blocking.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    wanted: Mutex<Wanted>,
    news: Notify,
}

/// What is new since it was last taken.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Those that are none have ended.
    pub(super) watches: HashMap<WatchKey, Option<Subscription>>,
    pub(super) connection: Option<Arc<Open>>,
    /// The actor is to end.
    pub(super) closed: bool,
}

impl Inbox {
    /// Sets a watch, or ends it.
    pub(super) fn watch(&self, key: WatchKey, subscription: Option<Subscription>) {
        self.change(|wanted| drop(wanted.watches.insert(key, subscription)));
    }

    /// Replaces the connection's configuration.
    pub(super) fn configure(&self, connection: Arc<Open>) {
        self.change(|wanted| wanted.connection = Some(connection));
    }

    /// Ends the actor.
    pub(super) fn close(&self) {
        self.change(|wanted| wanted.closed = true);
    }

    /// Waits until there may be something new.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    /// Takes what is new; that it was closed stays so.
    pub(super) fn take(&self) -> Wanted {
        let mut wanted = lock(&self.wanted);
        let closed = wanted.closed;
        Wanted { closed, ..std::mem::take(&mut *wanted) }
    }

    fn change(&self, change: impl FnOnce(&mut Wanted)) {
        change(&mut lock(&self.wanted));
        self.news.notify_one();
    }
}
