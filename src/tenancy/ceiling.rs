//! A rate that all tenants share, with a bound for each of them.
//!
//! Time goes in windows of a second. Where a window was full, each tenant has at most its max-min share of the next one
//! ([`share::level`]). An eighth of each window is kept for those who spend little, so that a newcomer, or who comes late in a window that
//! others have spent, need not wait for the next one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::time::Instant;

use super::{Tenant, share};

use crate::sync::lock;

const WINDOW: Duration = Duration::from_secs(1);
/// This part of a window is for all; the rest is kept for those who spend little.
const COMMON: f64 = 0.875;
/// Who has spent less than this part of a window spends little.
const LITTLE: f64 = 1.0 / 64.0;
/// A window in which this part of what is for all was spent was full.
const FULL: f64 = 0.9;

/// The ceiling. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Ceiling(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    per_second: f64,
    per_tenant: f64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    began: Instant,
    /// The most that each tenant may spend in a window.
    level: f64,
    spent: u32,
    tenants: HashMap<Tenant, Window>,
}

/// What a tenant did in the present window.
#[derive(Debug, Default)]
struct Window {
    spent: u32,
    /// It was told to wait: it wants more than it got.
    hungry: bool,
}

impl Ceiling {
    /// So many a second over all tenants, and for each of them; infinite for no bound.
    #[must_use]
    pub fn new(per_second: f64, per_tenant: f64, now: Instant) -> Self {
        let state = State { began: now, level: per_tenant, spent: 0, tenants: HashMap::new() };
        Self(Arc::new(Shared { per_second, per_tenant, state: Mutex::new(state) }))
    }

    /// Spends one on the account of `tenant`.
    ///
    /// # Errors
    /// When to ask again, where it has no share left of the present window.
    pub fn take(&self, tenant: &Tenant, now: Instant) -> Result<(), Instant> {
        if self.0.per_second.is_infinite() && self.0.per_tenant.is_infinite() {
            return Ok(());
        }
        let mut state = self.lock();
        state.turn(&self.0, now);
        let (spent, whole) = (f64::from(state.spent), self.0.per_second);
        let (level, next) = (state.level, state.began + WINDOW);
        let window = state.tenants.entry(tenant.clone()).or_default();
        let own = f64::from(window.spent);
        let all_spent = spent >= if own < LITTLE * whole { whole } else { COMMON * whole };
        // One at least, so that a bound below one in a window starves nobody.
        if all_spent || own >= level.max(1.0) {
            window.hungry = true;
            return Err(next);
        }
        window.spent += 1;
        state.spent += 1;
        Ok(())
    }

    /// Gives back one that was taken in the present window and was not needed after all.
    pub fn give_back(&self, tenant: &Tenant) {
        let mut state = self.lock();
        if let Some(window) = state.tenants.get_mut(tenant).filter(|window| window.spent > 0) {
            window.spent -= 1;
            state.spent = state.spent.saturating_sub(1);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.0.state)
    }
}

impl State {
    /// Begins a new window where the present one is over.
    fn turn(&mut self, shared: &Shared, now: Instant) {
        if now.saturating_duration_since(self.began) < WINDOW {
            return;
        }
        let is_next = now.saturating_duration_since(self.began) < 2 * WINDOW;
        // Where shares were in force and did not suffice, they stay: else every other window would be a free-for-all.
        let was_shared = self.level < shared.per_tenant && self.tenants.values().any(|window| window.hungry);
        let was_full = is_next && (was_shared || f64::from(self.spent) >= FULL * COMMON * shared.per_second);
        self.level = if was_full {
            let demand = |window: &Window| if window.hungry { shared.per_tenant } else { f64::from(window.spent) };
            share::level(self.tenants.values().map(demand), COMMON * shared.per_second).min(shared.per_tenant)
        } else {
            shared.per_tenant
        };
        (self.began, self.spent) = (now, 0);
        self.tenants.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> Tenant {
        Tenant::namespace(&Arc::from(name))
    }

    /// How many of `wanted` a second each tenant gets in the last of some seconds.
    async fn run(ceiling: &Ceiling, wanted: &[(&str, u32)]) -> Vec<u32> {
        let mut got = vec![0; wanted.len()];
        for second in 0..5 {
            got.fill(0);
            for slice in 0..100 {
                for (index, (name, per_second)) in wanted.iter().enumerate() {
                    let now_and_before = |slice: u32| per_second * slice / 100;
                    for _ in now_and_before(slice)..now_and_before(slice + 1) {
                        got[index] += u32::from(ceiling.take(&tenant(name), Instant::now()).is_ok());
                    }
                }
                tokio::time::advance(Duration::from_millis(10)).await;
            }
            let _ = second;
        }
        got
    }

    #[tokio::test(start_paused = true)]
    async fn the_greedy_do_not_hold_up_the_modest() {
        let ceiling = Ceiling::new(100.0, f64::INFINITY, Instant::now());
        let got = run(&ceiling, &[("greedy", 1000), ("greedy2", 1000), ("modest", 10)]).await;
        assert_eq!(got[2], 10, "{got:?}");
        assert!(got.iter().sum::<u32>() <= 101 && got[0] >= 36 && got[1] >= 36, "{got:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_late_in_a_window_that_others_have_spent_does_not_wait_for_the_next() {
        let ceiling = Ceiling::new(1000.0, f64::INFINITY, Instant::now());
        for second in 0..3 {
            for name in ["a", "b", "c"] {
                while ceiling.take(&tenant(name), Instant::now()).is_ok() {}
            }
            for n in 0..8 {
                let modest = tenant(&format!("modest-{second}-{n}"));
                let got = (0..10).filter(|_| ceiling.take(&modest, Instant::now()).is_ok()).count();
                assert_eq!(got, 10, "{n} in second {second}");
            }
            tokio::time::advance(WINDOW).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_tenant_has_a_bound_of_its_own() {
        let ceiling = Ceiling::new(1000.0, 50.0, Instant::now());
        assert_eq!(run(&ceiling, &[("a", 400), ("b", 20)]).await, [50, 20]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_given_back_can_be_spent() {
        let start = Instant::now();
        let ceiling = Ceiling::new(1.0, 1.0, start);
        for _ in 0..3 {
            assert_eq!(ceiling.take(&tenant("a"), start), Ok(()));
            ceiling.give_back(&tenant("a"));
        }
        assert_eq!(ceiling.take(&tenant("b"), start), Ok(()));
        assert!(ceiling.take(&tenant("a"), start).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_refused_learns_when_to_come_again() {
        let start = Instant::now();
        let ceiling = Ceiling::new(1.0, 1.0, start);
        assert_eq!(ceiling.take(&tenant("a"), start), Ok(()));
        let again = ceiling.take(&tenant("a"), start).unwrap_err();
        tokio::time::advance(again - start).await;
        assert_eq!(ceiling.take(&tenant("a"), Instant::now()), Ok(()));
    }
}
