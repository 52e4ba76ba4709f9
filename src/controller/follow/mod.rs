//! Following a collection of the API server: its objects are listed once, then watched, for ever.
//!
//! What is in the objects is chosen by whoever may write them. So pages are sized by their bytes, one page at a time is held in the whole
//! process, and an object is taken from the buffer piece by piece, with what is not looked at skipped.
//!
//! | module | what it does |
//! |---|---|
//! | [`course`] | what to ask for next; pure |
//! | [`pages`] | how many objects a page has; pure |
//! | [`history`] | whether the API server still tells the same history; pure |
//! | [`collection`], [`wire`] | requests with limits, and how the answers are written |
//! | [`quarantine`] | objects that cannot be read |

mod collection;
mod course;
mod history;
mod pages;
mod quarantine;
#[cfg(test)]
mod tests;
mod wire;

use std::{
    collections::HashSet,
    hash::{BuildHasher, Hash, RandomState},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use serde_json::value::RawValue;
use tokio::{sync::Semaphore, time::Instant};
use tracing::{debug, warn};

use self::{
    collection::{Collection, Fault},
    course::{Ask, Course},
    pages::OBJECT_CAP,
    quarantine::Quarantine,
    wire::{Event, Page, Refusal},
};
use super::{
    objects::version,
    readable::{self, Kind, Readable},
};
use crate::ops::{
    guard::Guard,
    health::Readiness,
    metrics::{Metrics, WatchMetrics},
};

/// A stream that fails says so in the log at most this often.
const COMPLAIN_EVERY: Duration = Duration::from_secs(30);
/// After so many bytes of objects others get their turn.
const TURN: usize = 64 << 10;

/// What the objects of a collection are taken into.
pub(super) trait Target<K>: Send + Sync + 'static {
    /// By what an object is known.
    type Key: Hash + Eq + Clone + Send;
    /// Takes in an object; its key, where it is one to keep.
    fn put(&self, object: K) -> Option<Self::Key>;
    /// Forgets an object.
    fn remove(&self, key: &Self::Key);
    /// The key of an object with this metadata.
    fn key(&self, meta: &ObjectMeta) -> Option<Self::Key>;
    /// All keys that came by this collection.
    fn keys(&self) -> Vec<Self::Key>;
    /// The resource version by which an object is known; none where that is not kept.
    fn known_version(&self, key: &Self::Key) -> Option<u64>;
    /// The API server tells another history: versions of before mean nothing any more.
    fn history_replaced(&self);
}

/// What following needs beside the collection.
#[derive(Clone)]
pub(super) struct Means {
    pub(super) client: Client,
    pub(super) metrics: Metrics,
    pub(super) guard: Guard,
    /// One permit: what is large is read one at a time in the whole process.
    pub(super) one_large: Arc<Semaphore>,
}

/// Follows the objects of a kind, of one namespace or all, for ever; `ready` once the first list is in.
pub(super) async fn follow<K: Kind, T: Target<K>>(
    means: Means,
    namespace: Option<String>,
    target: T,
    ready: Readiness,
) {
    let mut follower = Follower::<K, T>::new(means, namespace.as_deref(), target, ready);
    let (random, mut turn, mut complained) = (RandomState::new(), 0_u32, None::<Instant>);
    loop {
        turn = turn.wrapping_add(1);
        let spread = f64::from(u32::try_from(random.hash_one(turn) >> 32).unwrap_or_default()) / f64::from(u32::MAX);
        if let Some(wait) = follower.course.wait(spread) {
            tokio::time::sleep(wait).await;
        }
        let Err(fault) = follower.step().await else { continue };
        if complained.is_none_or(|last| last.elapsed() >= COMPLAIN_EVERY) {
            complained = Some(Instant::now());
            warn!(kind = %K::kind(), %fault, "cannot follow the objects of the API server; retrying");
        }
    }
}

struct Follower<K, T: Target<K>> {
    means: Means,
    collection: Collection,
    target: T,
    ready: Readiness,
    heard: WatchMetrics,
    quarantine: Quarantine,
    /// The keys of the list so far.
    listed: HashSet<T::Key>,
    course: Course,
}

/// How a watch ended that did not fail.
enum End {
    /// As agreed.
    Agreed,
    /// The API server tells another history.
    OtherHistory,
}

impl<K: Kind, T: Target<K>> Follower<K, T> {
    fn new(means: Means, namespace: Option<&str>, target: T, ready: Readiness) -> Self {
        let path = K::path(namespace);
        let collection = Collection {
            client: means.client.clone(),
            one_large: Arc::clone(&means.one_large),
            path,
            is_metadata_only: K::METADATA_ONLY,
        };
        Self {
            heard: means.metrics.watch(K::plural().into_owned()),
            quarantine: Quarantine::new(K::kind(), K::plural(), means.metrics.clone()),
            means,
            collection,
            target,
            ready,
            listed: HashSet::new(),
            course: Course::default(),
        }
    }

    /// One request, and what becomes of it. The course knows of an error; it is returned for the log, where it belongs there.
    async fn step(&mut self) -> Result<(), Fault> {
        let begun = Instant::now();
        let is_watch = matches!(self.course.ask(), Ask::Watch(_));
        let result = match self.course.ask() {
            Ask::Page { .. } | Ask::Outline { .. } => self.page().await,
            Ask::Look(_) => self.look().await,
            Ask::Watch(version) => self.watch(version).await.map(|end| {
                if matches!(end, End::Agreed) {
                    self.course.watch_ended(true, begun.elapsed());
                }
            }),
        };
        let Err(fault) = result else { return Ok(()) };
        debug!(kind = %K::kind(), %fault, "a request to the API server failed");
        match fault {
            Fault::TooLarge(_) if !is_watch => self.course.page_too_large(),
            // An event that is too large, or unreadable, would only come again.
            Fault::TooLarge(_) | Fault::Unreadable(_) if is_watch => self.course.out_of_reach(None),
            Fault::Refused(refusal) if refusal.is_expired() => self.course.out_of_reach(refusal.into_token()),
            Fault::Broken(_) | Fault::TimedOut(_) if is_watch => {
                self.course.watch_ended(false, begun.elapsed());
                return Err(fault);
            }
            fault => {
                self.course.failed();
                return Err(fault);
            }
        }
        Ok(())
    }

    /// Reads one page of the list, and takes its objects in.
    async fn page(&mut self) -> Result<(), Fault> {
        let _one = self.collection.one_large().await;
        let (collection, whole) = (&self.collection, !K::METADATA_ONLY);
        let (body, is_first, is_outline) = match self.course.ask() {
            Ask::Page { limit, cap, token } => {
                (collection.page(limit, token, cap, !whole).await?, token.is_none(), false)
            }
            Ask::Outline { token } => (collection.page(1, token, OBJECT_CAP, true).await?, token.is_none(), whole),
            Ask::Look(_) | Ask::Watch(_) => return Ok(()),
        };
        let Page { metadata, items } = serde_json::from_slice(&body)?;
        self.heard.now();
        let (version, items) = (metadata.version(), items.unwrap_or_default());
        let paged = self.course.page(version, metadata.into_token(), items.len(), body.len());
        if paged.is_other_history {
            self.history_replaced();
        }
        if is_first {
            self.listed.clear();
            self.quarantine.begin();
        }
        let mut since_turn = 0;
        for item in items {
            let taken = if is_outline { self.pass_by(item) } else { self.take(item, Some(version)) };
            if let Some((meta, key)) = taken {
                self.course.listed(&meta);
                self.listed.extend(key);
            }
            since_turn += item.get().len();
            if since_turn >= TURN {
                since_turn = 0;
                tokio::task::yield_now().await;
            }
        }
        if paged.is_complete {
            for key in self.target.keys() {
                if !self.listed.contains(&key) {
                    self.target.remove(&key);
                }
            }
            self.listed = HashSet::new();
            self.quarantine.complete();
            self.ready.done();
            debug!(kind = %K::kind(), version, "listed");
        }
        Ok(())
    }

    /// Looks whether the history goes on from what is known.
    async fn look(&mut self) -> Result<(), Fault> {
        let _one = self.collection.one_large().await;
        let Ask::Look(newest) = self.course.ask() else { return Ok(()) };
        let body = match newest {
            Some(change) => {
                let path = K::path(change.namespace.as_deref());
                self.collection.single(&path, Some(&change.name), OBJECT_CAP).await?
            }
            None => self.collection.single(&self.collection.path, None, OBJECT_CAP).await?,
        };
        let Page { metadata, items } = serde_json::from_slice(&body)?;
        let found = items.unwrap_or_default().first().map(|item| readable::metadata(item.get())).transpose()?;
        if self.course.looked(metadata.version(), found.as_ref()) {
            self.history_replaced();
        }
        Ok(())
    }

    /// Takes in what changes, until the watch ends.
    async fn watch(&mut self, version: u64) -> Result<End, Fault> {
        let mut lines = self.collection.watch(version).await?;
        self.heard.now();
        let mut since_turn = 0;
        while let Some(line) = lines.next(OBJECT_CAP).await? {
            self.heard.now();
            let Event { kind, object } = serde_json::from_slice(line)?;
            let is_other_history = match &*kind {
                "ADDED" | "MODIFIED" => {
                    let taken = self.take(object, None);
                    taken.is_some_and(|(meta, _)| self.course.changed(&meta, false))
                }
                "DELETED" => {
                    let meta = readable::metadata(object.get())?;
                    self.quarantine.release(&meta);
                    if let Some(key) = self.target.key(&meta) {
                        self.target.remove(&key);
                    }
                    self.course.changed(&meta, true)
                }
                "BOOKMARK" => {
                    let meta = readable::metadata(object.get())?;
                    self.course.bookmark(self::version(&meta))
                }
                "ERROR" => return Err(Fault::Refused(Refusal::of(object.get()))),
                _ => false,
            };
            if is_other_history {
                self.history_replaced();
                return Ok(End::OtherHistory);
            }
            since_turn += line.len();
            if since_turn >= TURN {
                since_turn = 0;
                tokio::task::yield_now().await;
            }
        }
        Ok(End::Agreed)
    }

    /// Takes in an object, unless it cannot be read: then what is known of it stays, until it is deleted. `listed` is the version of
    /// the list that it is from.
    fn take(&mut self, object: &RawValue, listed: Option<u64>) -> Option<(ObjectMeta, Option<T::Key>)> {
        match Readable::<K>::read(&self.means.guard, object.get()) {
            Readable::Whole(meta, object) => {
                self.quarantine.release(&meta);
                let known = self.target.key(&meta).and_then(|key| self.target.known_version(&key));
                // A list is never older than what was known before its moment.
                if known.zip(listed).is_some_and(|(known, listed)| version(&meta) < known && known <= listed) {
                    self.history_replaced();
                }
                let key = self.target.put(object);
                Some((meta, key))
            }
            Readable::Unreadable(meta, error) => {
                self.quarantine.hold(&meta, &error);
                let key = self.target.key(&meta);
                Some((meta, key))
            }
            Readable::Nameless(error) => {
                warn!(kind = %K::kind(), error, "the API server sends an object without readable metadata: left out");
                None
            }
        }
    }

    /// Notes an object of which only the metadata is small enough to be read.
    fn pass_by(&mut self, object: &RawValue) -> Option<(ObjectMeta, Option<T::Key>)> {
        let meta = readable::metadata(object.get()).ok()?;
        self.quarantine.hold(&meta, &format!("larger than {OBJECT_CAP} bytes"));
        let key = self.target.key(&meta);
        Some((meta, key))
    }

    fn history_replaced(&mut self) {
        warn!(
            kind = %K::kind(),
            "the API server tells another history than before, as after etcd was restored from a backup: all objects are listed again"
        );
        self.means.metrics.history_replaced(&K::plural());
        self.target.history_replaced();
    }
}
