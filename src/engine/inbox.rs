//! What the controller wants of a connection, on its way to the actor.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use tokio::sync::Notify;

use super::{Discovery, Open, Subscription, WatchKey};

use crate::sync::lock;

/// What somebody wants of a connection.
#[derive(Debug)]
pub(super) enum Wish {
    /// To know of a task.
    Watch(Subscription),
    /// To know of all tasks of a scope.
    Discover(Discovery),
}

/// The newest of what is wanted, for each who wants something: bounded by their number, never blocking.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    wanted: Mutex<Wanted>,
    news: Notify,
}

/// What is new since it was last taken.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Those that are none have ended.
    pub(super) wishes: HashMap<WatchKey, Option<Wish>>,
    pub(super) connection: Option<Arc<Open>>,
    /// The actor is to end.
    pub(super) closed: bool,
}

impl Inbox {
    /// Sets what somebody wants, or ends it.
    pub(super) fn wish(&self, key: WatchKey, wish: Option<Wish>) {
        self.change(|wanted| drop(wanted.wishes.insert(key, wish)));
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
