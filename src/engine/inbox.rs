//! What the controller wants of a connection, on its way to the actor.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use tokio::sync::{Notify, oneshot};

use super::{ConnectionAgenda, Discovery, Open, Subscription, WatchKey};

use crate::sync::lock;

/// Most who ask a connection at a time what it does next.
const ASKERS: usize = 8;

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
    /// Who wants to know what the actor does next.
    pub(super) askers: Vec<oneshot::Sender<ConnectionAgenda>>,
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

    /// Asks what the actor does next. Nothing comes of it where enough ask already.
    pub(super) fn ask(&self) -> oneshot::Receiver<ConnectionAgenda> {
        let (asker, answer) = oneshot::channel();
        self.change(|wanted| {
            if wanted.askers.len() < ASKERS {
                wanted.askers.push(asker);
            }
        });
        answer
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
