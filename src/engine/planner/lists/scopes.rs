//! The scopes of a connection, by their names. One that is not there has no task that is polled: it is good for nothing, nothing is awaited
//! of it, and nothing is read.

use std::{collections::HashMap, sync::Arc};

use tokio::time::Instant;

use super::{run::Run, scope::Scope};
use crate::engine::coalesce::Mode;
use crate::tenancy::Tenant;

/// The scopes.
#[derive(Debug, Default)]
pub struct Scopes(HashMap<Arc<str>, Scope>);

impl Scopes {
    pub fn get(&self, name: &str) -> Option<&Scope> {
        self.0.get(name)
    }

    pub fn get_mut(&mut self, name: &str) -> Option<&mut Scope> {
        self.0.get_mut(name)
    }

    /// A scope with its name, to be kept.
    pub fn named(&self, name: &str) -> Option<(Arc<str>, &Scope)> {
        self.0.get_key_value(name).map(|(name, scope)| (Arc::clone(name), scope))
    }

    /// A scope, which is made where it is not there.
    pub fn get_or_insert(&mut self, name: &str, new: impl FnOnce() -> Scope) -> &mut Scope {
        // By the name as it is kept where there is one: for each move of each task.
        let name = self.0.get_key_value(name).map_or_else(|| Arc::from(name), |(name, _)| Arc::clone(name));
        self.0.entry(name).or_insert_with(new)
    }

    /// Forgets a scope.
    pub fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Scope)> {
        self.0.iter()
    }

    /// The names of all.
    pub fn names(&self) -> Vec<Arc<str>> {
        self.0.keys().cloned().collect()
    }

    /// The job whose answer last showed that the credential is good for it; 0 for none.
    pub fn good(&self, name: &str) -> u64 {
        self.get(name).map_or(0, Scope::good)
    }

    /// The answer to this job showed that the credential is good for it; 0: it is not.
    pub fn set_good(&mut self, name: &str, job: u64) {
        if let Some(scope) = self.get_mut(name) {
            scope.set_good(job);
        }
    }

    /// Whether its list is wanted.
    pub fn is_awaited(&self, name: &str) -> bool {
        self.get(name).is_some_and(Scope::is_awaited)
    }

    /// How many lists are being read.
    pub fn running(&self) -> usize {
        self.0.values().filter(|scope| scope.is_running()).count()
    }

    /// The list of it that is being read.
    pub(super) fn run(&mut self, name: &str) -> Option<&mut Run> {
        self.get_mut(name)?.run()
    }

    /// How most tasks are polled; none without tasks to poll or to discover.
    pub fn mode_of_most(&self) -> Option<Mode> {
        let is_asked = |scope: &&Scope| scope.members() > 0 || scope.is_running() || scope.is_discovered();
        self.0.values().filter(is_asked).max_by_key(|scope| scope.members()).map(Scope::mode)
    }

    /// Its list is not due any more. Returns its name as it is kept, when it was due, and in whose turn.
    pub fn unschedule(&mut self, name: &str) -> Option<(Arc<str>, Instant, &Tenant)> {
        let kept = Arc::clone(self.0.get_key_value(name)?.0);
        let (due, lane) = self.0.get_mut(name)?.unschedule()?;
        Some((kept, due, lane))
    }

    /// How many there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}
