//! Everything that is simulated, and what was asked of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::Error;
use crate::auth::{KeyState, Tokens};
use crate::clock::{Clock, seconds_to_ms};
use crate::faults::Faults;
use crate::records::Records;
use crate::scenario::{BulkSpec, Credential, Provider, Scenario, ScopeSpec, Step, TaskSpec};
use crate::tasks::{Task, Tasks, Timeline};
use crate::tls::Choice;

/// Takes a lock, also after a panic elsewhere: the simulator goes on with what there is.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An account, project or service instance, with its tasks.
#[derive(Debug)]
pub(crate) struct Scope {
    spec: RwLock<Arc<ScopeSpec>>,
    pub(crate) tasks: Mutex<Tasks>,
}

impl Scope {
    pub(crate) fn spec(&self) -> Arc<ScopeSpec> {
        self.spec.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether this is one of its tokens made by hand, and the number of the problem with it; 0: none.
    pub(crate) fn static_token(&self, wanted: &str) -> Option<u32> {
        self.spec().credentials.iter().find_map(|c| match c {
            Credential::Token { token, denied } if token == wanted => Some(denied.unwrap_or(0)),
            _ => None,
        })
    }

    /// Its tasks, brought to `now`.
    pub(crate) fn tasks_at(&self, now: i64) -> MutexGuard<'_, Tasks> {
        let mut tasks = lock(&self.tasks);
        tasks.advance(now);
        tasks
    }
}

type Scopes = HashMap<Provider, BTreeMap<String, Arc<Scope>>>;

/// The simulator's state.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) clock: Clock,
    scopes: RwLock<Scopes>,
    pub(crate) tokens: Mutex<Tokens>,
    pub(crate) keys: Mutex<HashMap<String, KeyState>>,
    pub(crate) faults: Faults,
    pub(crate) records: Records,
    pub(crate) tls: Option<Arc<Choice>>,
}

impl World {
    pub(crate) fn new(seed: u64, log_capacity: usize, tls: Option<Arc<Choice>>) -> Self {
        Self {
            seed,
            clock: Clock::default(),
            scopes: RwLock::default(),
            tokens: Mutex::default(),
            keys: Mutex::default(),
            faults: Faults::new(seed),
            records: Records::new(log_capacity),
            tls,
        }
    }

    /// Puts a scenario in the place of all there is.
    pub(crate) fn load(&self, scenario: Scenario) -> Result<(), Error> {
        *self.scopes.write().unwrap_or_else(PoisonError::into_inner) = HashMap::new();
        *lock(&self.tokens) = Tokens::default();
        lock(&self.keys).clear();
        self.faults.clear();
        for scope in scenario.scopes {
            self.put_scope(scope);
        }
        for task in scenario.tasks {
            self.put_task(task)?;
        }
        for bulk in &scenario.bulk {
            self.put_bulk(bulk)?;
        }
        for fault in scenario.faults {
            self.faults.add(fault, self.clock.now_ms());
        }
        Ok(())
    }

    pub(crate) fn scope(&self, provider: Provider, id: &str) -> Option<Arc<Scope>> {
        self.scopes.read().unwrap_or_else(PoisonError::into_inner).get(&provider)?.get(id).cloned()
    }

    pub(crate) fn scopes_of(&self, provider: Provider) -> Vec<Arc<Scope>> {
        let scopes = self.scopes.read().unwrap_or_else(PoisonError::into_inner);
        scopes.get(&provider).map(|s| s.values().cloned().collect()).unwrap_or_default()
    }

    pub(crate) fn all_scopes(&self) -> Vec<Arc<Scope>> {
        [Provider::CloudRu, Provider::HuaweiCloud, Provider::AstraControl]
            .into_iter()
            .flat_map(|p| self.scopes_of(p))
            .collect()
    }

    /// Adds a scope, or changes one and leaves its tasks. Answers are rendered anew: its options may have changed.
    pub(crate) fn put_scope(&self, spec: ScopeSpec) {
        let mut scopes = self.scopes.write().unwrap_or_else(PoisonError::into_inner);
        let of_provider = scopes.entry(spec.provider).or_default();
        if let Some(scope) = of_provider.get(&spec.id) {
            *scope.spec.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(spec);
            lock(&scope.tasks).forget_rendered();
        } else {
            let id = spec.id.clone();
            of_provider.insert(id, Arc::new(Scope { spec: RwLock::new(Arc::new(spec)), tasks: Mutex::default() }));
        }
    }

    pub(crate) fn remove_scope(&self, provider: Provider, id: &str) -> bool {
        let mut scopes = self.scopes.write().unwrap_or_else(PoisonError::into_inner);
        scopes.get_mut(&provider).is_some_and(|s| s.remove(id).is_some())
    }

    fn known_scope(&self, provider: Provider, id: &str) -> Result<Arc<Scope>, Error> {
        self.scope(provider, id)
            .ok_or_else(|| Error::Scenario(format!("no scope {} {id}: add it first", provider.word())))
    }

    pub(crate) fn put_task(&self, spec: TaskSpec) -> Result<(), Error> {
        let scope = self.known_scope(spec.provider, &spec.scope)?;
        if spec.steps.is_empty() {
            return Err(Error::Scenario(format!("task {} has no steps", spec.id)));
        }
        let now = self.clock.now_ms();
        let timeline = Timeline::new(spec.steps, spec.loop_seconds);
        let start = now - seconds_to_ms(spec.ago);
        let task = Task::new(spec.id, Arc::new(spec.common), timeline, start);
        scope.tasks_at(now).put(task, now);
        Ok(())
    }

    /// Adds many tasks; their IDs.
    pub(crate) fn put_bulk(&self, spec: &BulkSpec) -> Result<Vec<String>, Error> {
        let scope = self.known_scope(spec.provider, &spec.scope)?;
        let (steps, loop_seconds, spread) = match spec.change_every_seconds {
            Some(period) => (toggling(spec.provider, period), Some(period * 2.0), period * 2.0),
            None => (spec.steps.clone(), spec.loop_seconds, spec.spread_seconds),
        };
        if steps.is_empty() {
            return Err(Error::Scenario("bulk: steps or changeEverySeconds".to_owned()));
        }
        let now = self.clock.now_ms();
        let timeline = Timeline::new(steps, loop_seconds);
        let common = Arc::new(spec.common.clone());
        let spread = seconds_to_ms(spread);
        let total = i64::try_from(spec.count.max(1)).unwrap_or(i64::MAX);
        let mut tasks = scope.tasks_at(now);
        let mut ids = Vec::with_capacity(spec.count);
        for (i, n) in (0_i64..total).zip(spec.first..spec.first.saturating_add(spec.count)) {
            let id = bulk_id(spec.provider, &spec.scope, n);
            let start = now - spread.saturating_mul(i) / total;
            tasks.put(Task::new(id.clone(), Arc::clone(&common), Arc::clone(&timeline), start), now);
            ids.push(id);
        }
        Ok(ids)
    }
}

/// Two states that no reader takes for an end.
fn toggling(provider: Provider, period: f64) -> Vec<Step> {
    let words = match provider {
        Provider::CloudRu => ["TASK_STATUS_RUNNING", "TASK_STATUS_PENDING"],
        Provider::HuaweiCloud => ["RUNNING", "INIT"],
        Provider::AstraControl => ["running", "paused"],
    };
    let step = |at: f64, word: &str| Step { at, state: word.to_owned(), percent: Some(42.5), ..Step::default() };
    vec![step(0.0, words[0]), step(period, words[1])]
}

/// The ID of the n-th task of a bulk: 32 hex digits at Huawei Cloud (seed 001), else the form of a version 5 UUID (upstreams.md §3.1).
fn bulk_id(provider: Provider, scope: &str, n: usize) -> String {
    let tag = scope.bytes().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
    match provider {
        Provider::HuaweiCloud => format!("{tag:08x}00000000{n:016x}"),
        Provider::CloudRu | Provider::AstraControl => format!("{tag:08x}-0000-5000-8000-{n:012x}"),
    }
}
