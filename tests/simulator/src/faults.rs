//! Faults: which requests they meet, and what happens to those. How they are done is in `mangle`.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::api::Route;
use crate::clock::seconds_to_ms;
use crate::rng::Rng;
use crate::scenario::{Provider, TokenLayer};
use crate::world::lock;

/// A fault as it is asked for.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct FaultSpec {
    /// Given out when absent.
    #[serde(default)]
    pub(crate) id: Option<String>,
    #[serde(default, rename = "match")]
    pub(crate) matches: Matcher,
    /// Of a hundred requests.
    #[serde(default = "all")]
    pub(crate) percent: u8,
    /// So many of the first are spared.
    #[serde(default)]
    pub(crate) skip: u64,
    /// So many are met, then it is over.
    #[serde(default)]
    pub(crate) count: Option<u64>,
    /// Seconds after it was added.
    #[serde(default)]
    pub(crate) from: f64,
    #[serde(default)]
    pub(crate) until: Option<f64>,
    pub(crate) action: Action,
}

fn all() -> u8 {
    100
}

/// Every condition that is given must hold.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Matcher {
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<Provider>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    /// `token`, `list`, `task`, `other`; absent: all but `token`, unless `path` names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    /// A part of the path, as it was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    /// A part of the query, as it was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<String>,
}

impl Matcher {
    fn meets(&self, route: &Route, method: &str, path: &str, query: &str) -> bool {
        let kind = match &self.kind {
            Some(kind) => kind == "any" || kind == route.kind.word(),
            None => self.path.is_some() || route.kind != crate::api::Kind::Token,
        };
        kind && self.provider.is_none_or(|p| route.provider == Some(p))
            && self.scope.as_ref().is_none_or(|s| route.scope.as_ref() == Some(s))
            && self.path.as_ref().is_none_or(|p| path.contains(p.as_str()))
            && self.query.as_ref().is_none_or(|q| query.contains(q.as_str()))
            && self.method.as_ref().is_none_or(|m| m.eq_ignore_ascii_case(method))
    }
}

/// What is done.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "kind", deny_unknown_fields)]
pub(crate) enum Action {
    /// This status; with the provider's own error body unless `body` is given.
    Status {
        status: u16,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        body: Option<Value>,
        #[serde(default, skip_serializing_if = "Map::is_empty")]
        headers: Map<String, Value>,
        /// `Retry-After` in seconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_seconds: Option<u32>,
        /// `Retry-After` as a date, so many seconds from now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_date: Option<f64>,
    },
    /// The true answer, later: so long before the headers, so long over the body.
    Delay {
        #[serde(default)]
        headers_ms: u64,
        #[serde(default)]
        body_ms: u64,
    },
    /// The connection is reset, before the answer or after so many bytes of its body.
    Reset {
        #[serde(default)]
        after_bytes: Option<usize>,
    },
    /// Accepted and never answered (bounded to an hour).
    Hang {
        #[serde(default = "hour")]
        seconds: f64,
    },
    /// 200 and bytes that are no JSON.
    Garbage,
    /// 200 and a login page.
    Html,
    /// The true answer cut in the middle; `lie`: under the full Content-Length.
    Truncate {
        #[serde(default)]
        lie: bool,
    },
    /// 200 and a JSON string without end, of so many bytes.
    Huge { bytes: u64 },
    /// 200 and a gzip body that unfolds to so many bytes.
    GzipBomb { bytes: u64 },
    /// 200 and arrays in arrays.
    DeepNesting {
        #[serde(default = "deep")]
        depth: usize,
    },
    /// A task answers with another ID; in a list, the first one does.
    WrongId {
        #[serde(default)]
        id: Option<String>,
    },
    /// The items belong to another scope.
    OtherScope,
    /// Every item of a list twice.
    DuplicateItems,
    /// Items are missing from a list: this one, or each n-th.
    DropItems {
        #[serde(default)]
        id: Option<String>,
        #[serde(default)]
        every: Option<usize>,
    },
    /// Astra: every page is the first and names the same next one.
    RepeatPages,
    /// All times lie so many seconds ahead.
    FutureTimes { seconds: f64 },
    /// Every task shows this state (one that goes backwards, say).
    State { state: String },
    /// Keys laid over the task, or over each item.
    Fields { fields: Map<String, Value> },
    /// The upstream knows no such task; lists are empty.
    NotFound,
    /// As though the token had just expired.
    TokenExpired {
        #[serde(default)]
        layer: TokenLayer,
    },
    /// As though the credential were wrong; at a token endpoint: a wrong password.
    AuthWrong,
}

fn hour() -> f64 {
    3600.0
}

fn deep() -> usize {
    100_000
}

#[derive(Debug)]
struct Fault {
    spec: FaultSpec,
    id: String,
    added_ms: i64,
    met: u64,
    spared: u64,
}

#[derive(Debug)]
struct Inner {
    faults: Vec<Fault>,
    serial: u64,
    rng: Rng,
}

/// All faults.
#[derive(Debug)]
pub(crate) struct Faults {
    inner: Mutex<Inner>,
    /// Most of the time there is none, and no lock is taken.
    len: AtomicUsize,
}

/// What is done to one request: delays add up, of the rest the first counts.
#[derive(Debug, Default)]
pub(crate) struct Hit {
    pub(crate) ids: Vec<String>,
    pub(crate) headers_ms: u64,
    pub(crate) body_ms: u64,
    pub(crate) action: Option<Action>,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        let inner = Inner { faults: Vec::new(), serial: 0, rng: Rng::new(seed) };
        Self { inner: Mutex::new(inner), len: AtomicUsize::new(0) }
    }

    /// Adds a fault, or puts it in the place of the one with its ID; the ID.
    pub(crate) fn add(&self, spec: FaultSpec, now: i64) -> String {
        let mut inner = lock(&self.inner);
        inner.serial += 1;
        let id = spec.id.clone().unwrap_or_else(|| format!("f{}", inner.serial));
        inner.faults.retain(|f| f.id != id);
        inner.faults.push(Fault { spec, id: id.clone(), added_ms: now, met: 0, spared: 0 });
        self.len.store(inner.faults.len(), Ordering::Release);
        id
    }

    pub(crate) fn remove(&self, id: &str) -> bool {
        let mut inner = lock(&self.inner);
        let before = inner.faults.len();
        inner.faults.retain(|f| f.id != id);
        self.len.store(inner.faults.len(), Ordering::Release);
        inner.faults.len() < before
    }

    pub(crate) fn clear(&self) {
        lock(&self.inner).faults.clear();
        self.len.store(0, Ordering::Release);
    }

    pub(crate) fn list(&self) -> Value {
        let item = |f: &Fault| serde_json::json!({"id": f.id, "met": f.met, "addedMs": f.added_ms, "spec": f.spec});
        lock(&self.inner).faults.iter().map(item).collect()
    }

    /// What becomes of a request.
    pub(crate) fn meet(&self, route: &Route, method: &str, path: &str, query: &str, now: i64) -> Hit {
        let mut hit = Hit::default();
        if self.len.load(Ordering::Acquire) == 0 {
            return hit;
        }
        let mut inner = lock(&self.inner);
        let Inner { faults, rng, .. } = &mut *inner;
        for fault in faults {
            let age = now - fault.added_ms;
            let active = age >= seconds_to_ms(fault.spec.from)
                && fault.spec.until.is_none_or(|u| age < seconds_to_ms(u))
                && fault.spec.count.is_none_or(|c| fault.met < c);
            let delay = matches!(fault.spec.action, Action::Delay { .. });
            if !active || !delay && hit.action.is_some() || !fault.spec.matches.meets(route, method, path, query) {
                continue;
            }
            if fault.spared < fault.spec.skip {
                fault.spared += 1;
                continue;
            }
            if fault.spec.percent < 100 && !rng.chance(fault.spec.percent) {
                continue;
            }
            fault.met += 1;
            hit.ids.push(fault.id.clone());
            match &fault.spec.action {
                Action::Delay { headers_ms, body_ms } => {
                    hit.headers_ms += headers_ms;
                    hit.body_ms += body_ms;
                }
                other => hit.action = Some(other.clone()),
            }
        }
        hit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Kind;

    fn spec(text: &str) -> FaultSpec {
        serde_json::from_str(text).unwrap()
    }

    fn route(kind: Kind) -> Route {
        Route { provider: Some(Provider::HuaweiCloud), kind, scope: Some("p".into()), id: None }
    }

    fn met(faults: &Faults, now: i64) -> bool {
        faults.meet(&route(Kind::Task), "GET", "/v1/p/jobs/x", "a=b", now).action.is_some()
    }

    #[test]
    fn conditions_and_counts() {
        for (text, expected) in [
            (r#"{"action":{"kind":"html"}}"#, true),
            (r#"{"match":{"provider":"astraControl"},"action":{"kind":"html"}}"#, false),
            (
                r#"{"match":{"path":"/jobs/","query":"a=","method":"get","scope":"p","kind":"task"},"action":{"kind":"html"}}"#,
                true,
            ),
            (r#"{"match":{"path":"/tasks/"},"action":{"kind":"html"}}"#, false),
            (r#"{"match":{"kind":"token"},"action":{"kind":"html"}}"#, false),
            (r#"{"from":1,"action":{"kind":"html"}}"#, false),
            (r#"{"percent":0,"action":{"kind":"html"}}"#, false),
            (r#"{"action":{"kind":"delay","headersMs":5}}"#, false),
        ] {
            let faults = Faults::new(1);
            faults.add(spec(text), 0);
            assert_eq!(met(&faults, 10), expected, "{text}");
        }
        let faults = Faults::new(1);
        faults.add(spec(r#"{"id":"x","skip":1,"count":2,"until":60,"action":{"kind":"html"}}"#), 0);
        let seen: Vec<bool> = (0..5).map(|i| met(&faults, i)).collect();
        assert_eq!(seen, [false, true, true, false, false]);
        faults.add(spec(r#"{"id":"x","from":1,"until":2,"action":{"kind":"html"}}"#), 0);
        assert_eq!([500, 1500, 2500].map(|t| met(&faults, t)), [false, true, false]);
        assert!(faults.remove("x") && !faults.remove("x"));
    }

    #[test]
    fn a_tenth_is_about_a_tenth_and_repeats() {
        let run = || {
            let faults = Faults::new(7);
            faults.add(spec(r#"{"percent":10,"action":{"kind":"garbage"}}"#), 0);
            (0..1000).filter(|_| met(&faults, 1)).count()
        };
        assert!((70..130).contains(&run()));
        assert_eq!(run(), run());
    }
}
