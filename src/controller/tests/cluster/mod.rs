//! An API server in memory: a service for a client, what tests do to its objects, what was written, and faults on demand.
//!
//! | module | what it does |
//! |---|---|
//! | [`store`] | objects, versions, who watches |
//! | [`requests`] | from a request to the store, and back |

mod requests;
mod store;

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use http::Request;
use jiff::Timestamp;
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tower::{BoxError, service_fn};

use self::{
    requests::{Answer, Asked, refuse},
    store::{Refused, Store},
};
use crate::{
    ops::clock::Clock,
    ownership::{NotOwner, Pass},
};

/// A cluster. Clones are the same one.
#[derive(Clone)]
pub(super) struct Cluster(Arc<Inner>);

struct Inner {
    store: Mutex<Store>,
    /// What is done instead of what is asked, for requests that begin so, so many times.
    faults: Mutex<Vec<(String, usize, Fault)>>,
    asked: Mutex<Vec<String>>,
    wrote: Mutex<Vec<String>>,
    clock: Clock,
}

/// What is done instead of what is asked.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// It is refused with this code and reason.
    Refused(u16, &'static str),
    /// It is refused like this, and in these words.
    Told(u16, &'static str, &'static str),
    /// It is done, but the answer is lost.
    Lost,
    /// Nothing.
    Silent,
    /// It is done after this time.
    Slow(Duration),
    /// The object is gone before.
    Gone,
    /// The object has been deleted and made anew before.
    Anew,
}

impl Cluster {
    /// A cluster without objects, at the time of `clock`.
    pub(super) fn new(clock: Clock) -> Self {
        Self(Arc::new(Inner {
            store: Mutex::new(Store::new()),
            faults: Mutex::default(),
            asked: Mutex::default(),
            wrote: Mutex::default(),
            clock,
        }))
    }

    /// A client of it.
    pub(super) fn client(&self) -> Client {
        let cluster = self.clone();
        Client::new(service_fn(move |request| cluster.clone().serve(request)), "default")
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.0.store.lock().unwrap()
    }

    pub(super) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// Creates an object of the kind with this plural.
    pub(super) fn create(&self, plural: &str, object: Value) -> Value {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
        self.store().create((plural.to_owned(), namespace, name), object, self.now()).unwrap()
    }

    /// Changes an object; `of` is its plural, namespace and name: `taskwatches/n/w`.
    pub(super) fn edit(&self, of: &str, edit: impl FnOnce(&mut Value)) -> Value {
        self.store().edit(key(of), edit).unwrap()
    }

    pub(super) fn delete(&self, of: &str) {
        self.store().delete(&key(of), None).unwrap();
    }

    /// Deletes an object while nobody watches its kind: who lists that anew does not find it.
    pub(super) fn delete_unheard(&self, of: &str) {
        self.end_watches(&key(of).0, true);
        self.delete(of);
    }

    pub(super) fn get(&self, of: &str) -> Option<Value> {
        self.store().get(&key(of)).ok().cloned()
    }

    /// All objects of a kind.
    pub(super) fn all(&self, plural: &str) -> Vec<Value> {
        self.store().all(plural)
    }

    /// Does otherwise with the next so many requests that begin with `line`.
    pub(super) fn fail(&self, line: &str, times: usize, fault: Fault) {
        self.0.faults.lock().unwrap().push((line.to_owned(), times, fault));
    }

    /// Does again as it is asked.
    pub(super) fn heal(&self) {
        self.0.faults.lock().unwrap().clear();
    }

    /// Ends the watches of a kind: as agreed, or since their version is too old.
    pub(super) fn end_watches(&self, plural: &str, is_expired: bool) {
        let expired =
            json!({"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"});
        self.store().end_watches(plural, is_expired.then_some(("ERROR", &expired)));
    }

    /// The version of all that there is.
    pub(super) fn version(&self) -> u64 {
        self.store().version
    }

    /// All is again as it was at that version.
    pub(super) fn restore(&self, version: u64) {
        self.store().restore(version);
    }

    /// What was written since this was called last, or tried to.
    pub(super) fn wrote(&self) -> Vec<String> {
        std::mem::take(&mut self.0.wrote.lock().unwrap())
    }

    /// How often something that begins so was asked, from the beginning.
    pub(super) fn asked(&self, line: &str) -> usize {
        self.0.asked.lock().unwrap().iter().filter(|asked| asked.starts_with(line)).count()
    }

    async fn serve(self, request: Request<Body>) -> Result<Answer, BoxError> {
        let pass = request.extensions().get::<Pass>().cloned();
        let asked = Asked::read(request).await;
        let line = asked.line();
        self.0.asked.lock().unwrap().push(line.clone());
        if asked.is_write() {
            // As the client's fence has it.
            if !pass.as_ref().is_some_and(Pass::is_good) {
                return Err(NotOwner.into());
            }
            self.0.wrote.lock().unwrap().push(line.clone());
        }
        match self.fault(&line) {
            None => Ok(self.act(&asked)),
            Some(Fault::Refused(code, reason)) => Ok(refuse(&Refused::new(code, reason, reason))),
            Some(Fault::Told(code, reason, message)) => Ok(refuse(&Refused::new(code, reason, message))),
            Some(Fault::Lost) => {
                self.act(&asked);
                Err("the connection was reset".into())
            }
            Some(Fault::Silent) => std::future::pending().await,
            Some(Fault::Slow(after)) => {
                tokio::time::sleep(after).await;
                Ok(self.act(&asked))
            }
            Some(fault @ (Fault::Gone | Fault::Anew)) => {
                let old = self.store().delete(&asked.key(), None).unwrap();
                if matches!(fault, Fault::Anew) {
                    let anew = json!({"metadata": {}, "spec": old["spec"]});
                    self.store().create(asked.key(), anew, self.now()).unwrap();
                }
                Ok(self.act(&asked))
            }
        }
    }

    fn fault(&self, line: &str) -> Option<Fault> {
        let mut faults = self.0.faults.lock().unwrap();
        let (_, times, fault) =
            faults.iter_mut().find(|(begins, times, _)| *times > 0 && line.starts_with(begins.as_str()))?;
        *times -= 1;
        Some(fault.clone())
    }
}

fn key(of: &str) -> (String, String, String) {
    let mut parts = of.split('/').map(str::to_owned);
    let mut next = || parts.next().unwrap();
    (next(), next(), next())
}
