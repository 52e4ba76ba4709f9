//! The processing time of the runtime's threads, shared by tenants.
//!
//! What is done on a tenant's account is wrapped ([`Meter::wrap`]): the time of each poll is measured. While the runtime is busy, a tenant
//! that has had its max-min share ([`share::level`]) of the present window has to wait for the next one.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant as SystemInstant},
};

use tokio::time::{Instant, Sleep, sleep_until};

use super::{Tenant, share, usage::TenantUsage};

use crate::sync::lock;

const WINDOW: Duration = Duration::from_millis(250);
/// What all tenants together may have of a thread's time before any of them is delayed; the rest is for writing and probing.
const BUSY: f64 = 0.6;
/// A tenant that has been delayed again and again for so long is called throttled: a start is busy for a while, too.
const THROTTLED_AFTER: Duration = Duration::from_secs(30);
/// Delays that are further apart than this are not the same.
const THROTTLED_GAP: Duration = Duration::from_secs(10);

/// The account. Clones are the same one.
#[derive(Clone)]
pub struct Cpu(Arc<Mutex<State>>);

struct State {
    began: Instant,
    /// What each tenant may use of the present window.
    level: Duration,
    accounts: HashMap<Tenant, Weak<Account>>,
}

struct Account {
    /// Nanoseconds of the window that began at `window`, which is counted from `start` in nanoseconds.
    used: AtomicU64,
    /// The first and the last of the delays that follow one another.
    delays: Mutex<Option<(Instant, Instant)>>,
    usage: Arc<TenantUsage>,
}

/// Measures on the account of one tenant. Cheap to clone.
#[derive(Clone)]
pub struct Meter {
    cpu: Cpu,
    account: Arc<Account>,
}

impl Cpu {
    /// An account on which nothing has been used.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self(Arc::new(Mutex::new(State { began: now, level: Duration::MAX, accounts: HashMap::new() })))
    }

    /// The meter of a tenant; it is also counted in `usage`.
    #[must_use]
    pub fn meter(&self, tenant: &Tenant, usage: &Arc<TenantUsage>) -> Meter {
        let mut state = self.lock();
        let account = state.accounts.get(tenant).and_then(Weak::upgrade).unwrap_or_else(|| {
            let account = Account { used: AtomicU64::new(0), delays: Mutex::default(), usage: Arc::clone(usage) };
            let account = Arc::new(account);
            state.accounts.insert(tenant.clone(), Arc::downgrade(&account));
            account
        });
        drop(state);
        Meter { cpu: self.clone(), account }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }
}

impl State {
    /// Begins a new window where the present one is over.
    fn turn(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.began);
        if passed < WINDOW {
            return;
        }
        self.began = now;
        self.accounts.retain(|_, account| account.strong_count() > 0);
        let used = |account: &Weak<Account>| {
            account.upgrade().map_or(0.0, |account| Duration::from_nanos(account.used.swap(0, Relaxed)).as_secs_f64())
        };
        let used: Vec<_> = self.accounts.values().map(used).collect();
        // A window that was late has as much more to give.
        let level = share::level(used, BUSY * passed.as_secs_f64()) * WINDOW.as_secs_f64() / passed.as_secs_f64();
        self.level = Duration::try_from_secs_f64(level).unwrap_or(Duration::MAX);
    }
}

impl Meter {
    /// `future`, measured, and delayed while its tenant has had its share.
    pub fn wrap<F: Future>(&self, future: F) -> Metered<F> {
        Metered { meter: self.clone(), future: Box::pin(future), delay: None }
    }

    /// Counts time that was used otherwise.
    pub fn spend(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.account.used.fetch_add(nanos, Relaxed);
        self.account.usage.cpu(time);
    }

    /// Whether the tenant has been delayed for a while, and still is.
    #[must_use]
    pub fn is_throttled(&self, now: Instant) -> bool {
        let delays = *lock(&self.account.delays);
        delays.is_some_and(|(first, last)| {
            now.saturating_duration_since(last) < THROTTLED_GAP && last.duration_since(first) >= THROTTLED_AFTER
        })
    }

    /// Until when the tenant has to wait, if it has.
    fn until(&self, now: Instant) -> Option<Instant> {
        let mut state = self.cpu.lock();
        state.turn(now);
        let over = Duration::from_nanos(self.account.used.load(Relaxed)) >= state.level;
        let until = over.then(|| state.began + WINDOW);
        drop(state);
        if until.is_some() {
            let mut delays = lock(&self.account.delays);
            let first = delays.filter(|(_, last)| now.saturating_duration_since(*last) < THROTTLED_GAP);
            *delays = Some((first.map_or(now, |(first, _)| first), now));
        }
        until
    }
}

/// See [`Meter::wrap`].
pub struct Metered<F> {
    meter: Meter,
    future: Pin<Box<F>>,
    delay: Option<Pin<Box<Sleep>>>,
}

impl<F: Future> Future for Metered<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        loop {
            if let Some(delay) = &mut this.delay {
                if delay.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                this.delay = None;
            }
            match this.meter.until(Instant::now()) {
                Some(until) => this.delay = Some(Box::pin(sleep_until(until))),
                None => break,
            }
        }
        let began = SystemInstant::now();
        let polled = this.future.as_mut().poll(context);
        this.meter.spend(began.elapsed());
        polled
    }
}

impl fmt::Debug for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cpu").finish_non_exhaustive()
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenancy::usage::Usage;

    fn meter(cpu: &Cpu, name: &str) -> Meter {
        let tenant = Tenant::namespace(&Arc::from(name));
        cpu.meter(&tenant, &Usage::default().of(&tenant))
    }

    /// Has one window pass in which these shares of it were used.
    async fn window(meters: &[(&Meter, f64)]) {
        for (meter, part) in meters {
            meter.spend(WINDOW.mul_f64(*part));
        }
        tokio::time::advance(WINDOW).await;
    }

    #[tokio::test(start_paused = true)]
    async fn only_who_uses_more_than_its_share_waits_and_only_while_it_is_busy() {
        let cpu = Cpu::new(Instant::now());
        let (greedy, modest) = (meter(&cpu, "greedy"), meter(&cpu, "modest"));
        window(&[(&greedy, 0.5), (&modest, 0.05)]).await;
        assert!(greedy.until(Instant::now()).is_none(), "there was time left");
        window(&[(&greedy, 0.9), (&modest, 0.05)]).await;
        assert!(greedy.until(Instant::now()).is_none(), "a new window has begun");
        greedy.spend(WINDOW.mul_f64(0.6));
        modest.spend(WINDOW.mul_f64(0.05));
        let until = greedy.until(Instant::now()).unwrap();
        assert!(until <= Instant::now() + WINDOW);
        assert!(modest.until(Instant::now()).is_none());
        assert!(!greedy.is_throttled(Instant::now()), "for a moment is no matter");
        tokio::time::advance(WINDOW).await;
        assert!(greedy.until(Instant::now()).is_none(), "the next window is its own again");
        for _ in 0..2 * THROTTLED_AFTER.as_secs() {
            window(&[(&greedy, 4.0)]).await;
            let _ = greedy.until(Instant::now());
            greedy.spend(WINDOW.mul_f64(4.0));
            let _ = greedy.until(Instant::now());
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert!(greedy.is_throttled(Instant::now()) && !modest.is_throttled(Instant::now()));
        tokio::time::advance(THROTTLED_GAP).await;
        assert!(!greedy.is_throttled(Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wrapped_future_is_delayed_and_comes_to_its_end() {
        let cpu = Cpu::new(Instant::now());
        let greedy = meter(&cpu, "greedy");
        window(&[(&greedy, 1.0)]).await;
        assert!(greedy.until(Instant::now()).is_none());
        greedy.spend(WINDOW);
        let start = Instant::now();
        assert_eq!(greedy.wrap(async { 5 }).await, 5);
        assert_eq!(start.elapsed(), WINDOW);
    }
}
