//! What is held and given back, shared fairly.
//!
//! A tenant may hold as much as is free (the dynamic threshold of Choudhury and Hahne, 1998, with a factor of one): a single one gets
//! half, two that come together get a third each. Tenants that come one after the other leave less and less, and nobody who holds much
//! has to give it back for a newcomer; so an eighth of the whole is kept from that, for those who hold little. Who has to wait is
//! served in turn, tenant by tenant.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::sync::oneshot;

use super::Tenant;

use crate::sync::lock;

/// This part of the whole is kept for those who hold little: one of so many.
const KEPT: usize = 8;

/// A pool. Clones are the same pool.
#[derive(Clone)]
pub struct Pool(Arc<Shared>);

struct Shared {
    total: usize,
    /// What a tenant may hold of the part that is kept for those who hold little.
    floor: usize,
    state: Mutex<State>,
}

struct State {
    free: usize,
    held: HashMap<Tenant, usize>,
    /// In the order of their coming, by tenant; none is empty.
    waiting: HashMap<Tenant, VecDeque<Waiter>>,
    /// The tenants of `waiting`, whose turn comes first.
    turns: VecDeque<Tenant>,
}

struct Waiter {
    need: usize,
    granted: oneshot::Sender<Grant>,
}

/// A part that was granted; goes back when dropped.
struct Grant {
    pool: Pool,
    tenant: Tenant,
    size: usize,
}

/// What one user of the pool holds; all of it goes back when this is dropped.
pub struct Lease {
    pool: Pool,
    tenant: Tenant,
    held: usize,
}

/// A pool, and on whose account is taken from it.
#[derive(Clone, Debug)]
pub struct Account {
    /// From what.
    pub pool: Pool,
    /// For whom.
    pub tenant: Tenant,
}

impl Account {
    /// A lease of nothing yet.
    #[must_use]
    pub fn lease(&self) -> Lease {
        self.pool.lease(&self.tenant)
    }
}

impl Pool {
    /// A pool of `total` units, of which each tenant may hold up to `floor` even while others hold all but an eighth. Where many tenants
    /// hold that much at a time it is less, but a first one of up to `floor` is granted for as long as there is any.
    #[must_use]
    pub fn new(total: usize, floor: usize) -> Self {
        let state = State { free: total, held: HashMap::new(), waiting: HashMap::new(), turns: VecDeque::new() };
        Self(Arc::new(Shared { total, floor, state: Mutex::new(state) }))
    }

    /// A lease of nothing yet, on the account of `tenant`.
    #[must_use]
    pub fn lease(&self, tenant: &Tenant) -> Lease {
        Lease { pool: self.clone(), tenant: tenant.clone(), held: 0 }
    }

    /// How much there is in all.
    #[must_use]
    pub fn total(&self) -> usize {
        self.0.total
    }

    /// How much is held at present.
    #[must_use]
    pub fn held(&self) -> usize {
        self.0.total - self.lock().free
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.0.state)
    }

    fn give_back(&self, tenant: &Tenant, size: usize) {
        if size == 0 {
            return;
        }
        let lost = {
            let mut state = self.lock();
            state.free += size;
            if let Some(held) = state.held.get_mut(tenant) {
                *held = held.saturating_sub(size);
                if *held == 0 {
                    state.held.remove(tenant);
                }
            }
            self.serve(&mut state)
        };
        // Out of the lock: each goes back by itself.
        drop(lost);
    }

    /// Grants what can be granted, in turn. Returns the grants that nobody waits for any more.
    fn serve(&self, state: &mut State) -> Vec<Grant> {
        let mut lost = Vec::new();
        // Whoever is granted something comes again at the end of the turns; a whole round without a grant is the end.
        let mut refused = 0;
        while refused < state.turns.len() && state.free > 0 {
            refused += 1;
            let Some(tenant) = state.turns.pop_front() else { break };
            if let Some(queue) = state.waiting.get_mut(&tenant) {
                // Those who have given up stand in nobody's way.
                while queue.front().is_some_and(|waiter| waiter.granted.is_closed()) {
                    queue.pop_front();
                }
                let need = queue.front().map(|waiter| waiter.need);
                if let Some(need) = need.filter(|need| state.admits(&self.0, &tenant, *need))
                    && let Some(waiter) = state.waiting.get_mut(&tenant).and_then(VecDeque::pop_front)
                {
                    state.take(&tenant, need);
                    let grant = Grant { pool: self.clone(), tenant: tenant.clone(), size: need };
                    lost.extend(waiter.granted.send(grant).err());
                    refused = 0;
                }
            }
            if state.waiting.get(&tenant).is_some_and(|queue| !queue.is_empty()) {
                state.turns.push_back(tenant);
            } else {
                state.waiting.remove(&tenant);
            }
        }
        lost
    }
}

impl State {
    fn admits(&self, pool: &Shared, tenant: &Tenant, need: usize) -> bool {
        let held = self.held.get(tenant).copied().unwrap_or(0);
        let wanted = held + need;
        let is_in_common = wanted <= self.free.saturating_sub(pool.total / KEPT);
        // No more than a part of what is left, so that the last newcomer finds something, too.
        let is_little = wanted <= pool.floor && (held == 0 || wanted <= self.free / KEPT);
        need <= self.free && (is_in_common || is_little)
    }

    fn take(&mut self, tenant: &Tenant, size: usize) {
        self.free -= size;
        *self.held.entry(tenant.clone()).or_default() += size;
    }
}

impl Lease {
    /// How much it holds.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    /// Takes `more` on top, and waits for it where the tenant holds its share already; cancel-safe. A need that is more than half of the whole
    /// pool counts as half, since it could never be met.
    pub async fn grow(&mut self, more: usize) {
        let need = more.min(self.pool.0.total / 2).max(1);
        let waiting = {
            let mut state = self.pool.lock();
            let is_queued = state.waiting.contains_key(&self.tenant);
            if !is_queued && state.admits(&self.pool.0, &self.tenant, need) {
                state.take(&self.tenant, need);
                self.held += need;
                return;
            }
            let (granted, waiting) = oneshot::channel();
            if !is_queued {
                state.turns.push_back(self.tenant.clone());
            }
            state.waiting.entry(self.tenant.clone()).or_default().push_back(Waiter { need, granted });
            waiting
        };
        // The pool outlives its waiters, so an answer always comes.
        if let Ok(mut grant) = waiting.await {
            self.held += std::mem::take(&mut grant.size);
        }
    }

    /// Takes `more` on top where that is possible at once. Returns whether it was.
    pub fn try_grow(&mut self, more: usize) -> bool {
        let mut state = self.pool.lock();
        let admitted = !state.waiting.contains_key(&self.tenant) && state.admits(&self.pool.0, &self.tenant, more);
        if admitted {
            state.take(&self.tenant, more);
            self.held += more;
        }
        admitted
    }

    /// Holds `size` from now on, where that is possible at once. Returns whether it is; else it holds what it held.
    pub fn try_resize(&mut self, size: usize) -> bool {
        let fits = size <= self.held || self.try_grow(size - self.held);
        if fits {
            self.shrink_to(size);
        }
        fits
    }

    /// Gives back all beyond `size`.
    pub fn shrink_to(&mut self, size: usize) {
        if size < self.held {
            self.pool.give_back(&self.tenant, self.held - size);
            self.held = size;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.give_back(&self.tenant, self.held);
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.pool.give_back(&self.tenant, self.size);
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("total", &self.0.total).field("held", &self.held()).finish()
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("tenant", &self.tenant).field("held", &self.held).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use tokio::time::timeout;

    use super::*;

    fn tenant(name: &str) -> Tenant {
        Tenant::namespace(&Arc::from(name))
    }

    /// Takes units one by one until no more are given.
    fn greedy(pool: &Pool, name: &str) -> Vec<Lease> {
        let lease = || {
            let mut lease = pool.lease(&tenant(name));
            lease.try_grow(1).then_some(lease)
        };
        std::iter::from_fn(lease).collect()
    }

    #[test]
    fn one_gets_half_two_a_third_and_something_is_always_left() {
        // 15 of 135 are kept.
        let pool = Pool::new(135, 0);
        let first = greedy(&pool, "a");
        assert_eq!(first.len(), 60);
        let second = greedy(&pool, "b");
        assert_eq!(second.len(), 30);
        drop(first);
        assert_eq!(greedy(&pool, "b").len(), 30, "60 of 120 in all");
        drop(second);
        assert_eq!(pool.held(), 0);
    }

    #[test]
    fn who_comes_after_many_who_take_all_they_can_gets_what_it_needs() {
        const KIB: usize = 1 << 10;
        // 32 MiB with a floor of 512 KiB, in steps of 48 KiB, as for answers in 256 MiB.
        let pool = Pool::new(32 << 20, 512 * KIB);
        let mut hogs = Vec::new();
        for n in 0..24 {
            let mut leases: Vec<Lease> = Vec::new();
            loop {
                let mut lease = pool.lease(&tenant(&format!("hog-{n}")));
                if !lease.try_grow(48 * KIB) {
                    break;
                }
                leases.push(lease);
            }
            assert!(!leases.is_empty(), "hog {n} gets something, too");
            hogs.push(leases);
            if n < 8 {
                let modest = tenant("modest");
                let mut few: Vec<_> = (0..3).map(|_| pool.lease(&modest)).collect();
                assert!(few.iter_mut().all(|lease| lease.try_grow(48 * KIB)), "after {} hogs", n + 1);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_given_back_goes_to_all_who_wait_as_far_as_it_goes() {
        let pool = Pool::new(16, 0);
        let mut all = pool.lease(&tenant("x"));
        assert!(all.try_grow(14));
        let wait = |name: &'static str| {
            let pool = pool.clone();
            tokio::spawn(async move {
                let mut lease = pool.lease(&tenant(name));
                lease.grow(1).await;
                lease
            })
        };
        let waiting = ["a", "a", "a", "b"].map(wait);
        tokio::task::yield_now().await;
        drop(all);
        let held = timeout(Duration::from_secs(1), futures::future::join_all(waiting)).await.unwrap();
        assert_eq!(held.len(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_served_in_turn_tenant_by_tenant() {
        let pool = Pool::new(2, 0);
        let mut holder = pool.lease(&tenant("x"));
        holder.grow(1).await;
        let served = Arc::new(Mutex::new(Vec::new()));
        for name in ["a", "a", "a", "b"] {
            let (pool, served) = (pool.clone(), Arc::clone(&served));
            tokio::spawn(async move {
                let mut lease = pool.lease(&tenant(name));
                // The first is served at once and keeps the place for a while.
                lease.grow(1).await;
                served.lock().unwrap().push(name);
                tokio::time::sleep(Duration::from_secs(1)).await;
            });
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        let order = served.lock().unwrap().clone();
        assert_eq!(order.len(), 4);
        assert!(order.iter().position(|name| *name == "b").unwrap() <= 2, "{order:?}");
        drop(holder);
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_loses_nothing_of_the_pool() {
        let pool = Pool::new(4, 0);
        let mut holder = pool.lease(&tenant("a"));
        holder.grow(2).await;
        let mut late = pool.lease(&tenant("a"));
        assert!(timeout(Duration::from_secs(1), late.grow(1)).await.is_err());
        holder.shrink_to(0);
        assert_eq!(pool.held(), 0);
        late.grow(1).await;
        assert_eq!((late.held(), pool.held()), (1, 1));
        drop(late);
        assert_eq!(pool.held(), 0);
    }

    proptest! {
        #[test]
        fn what_is_held_and_what_is_free_are_always_the_whole(steps in proptest::collection::vec((0_usize..4, 0_usize..3, 1_usize..40), 1..200)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let pool = Pool::new(100, 5);
                let names = ["a", "b", "c", "d"];
                let mut leases: Vec<Lease> = names.iter().map(|name| pool.lease(&tenant(name))).collect();
                for (who, what, size) in steps {
                    match what {
                        0 => drop(leases[who].try_grow(size)),
                        1 => leases[who].shrink_to(size),
                        // A wait that is given up at once.
                        _ => drop(futures::FutureExt::now_or_never(leases[who].grow(size))),
                    }
                    let held: usize = leases.iter().map(Lease::held).sum();
                    assert_eq!(pool.held(), held);
                }
                leases.clear();
                assert_eq!(pool.held(), 0);
                assert!(pool.lock().held.is_empty());
            });
        }
    }
}
