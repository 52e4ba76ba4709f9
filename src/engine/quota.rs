//! Whether a connection may send its next job as far as its tenant is concerned, which has a share of all requests of the operator.

use tokio::time::{Duration, Instant};

use super::planner::{Job, Planner, Wait, Why};
use crate::tenancy::{Tenant, ceiling::Ceiling};

/// What comes due within this time may be sent together with what is due.
const SOON: Duration = Duration::from_millis(20);

/// Between a connection's planner and the requests that all connections share.
#[derive(Debug)]
pub(super) struct Quota {
    requests: Ceiling,
    tenant: Tenant,
    /// The tenant has spent its share until then.
    spent_until: Option<Instant>,
}

impl Quota {
    pub(super) fn new(requests: Ceiling, tenant: &Tenant) -> Self {
        Self { requests, tenant: tenant.clone(), spent_until: None }
    }

    /// The next job that may be sent now, paid for.
    pub(super) fn next(&mut self, planner: &mut Planner, now: Instant) -> Option<Job> {
        if self.spent_until.is_some_and(|until| until > now) {
            return None;
        }
        self.spent_until = None;
        // Who has nothing to send takes nobody's turn.
        planner.wake_at(now).filter(|at| *at <= now + SOON)?;
        if let Err(again) = self.requests.take(&self.tenant, now) {
            self.spent_until = Some(again);
            return None;
        }
        let job = planner.next(now);
        if job.is_none() {
            self.requests.give_back(&self.tenant);
        }
        job
    }

    /// How long there is no job, and why.
    pub(super) fn wait(&self, planner: &Planner, now: Instant) -> Wait {
        let wait = planner.wait(now);
        match self.spent_until {
            Some(spent) if wait.until.is_some_and(|at| at < spent) => Wait { until: Some(spent), why: Why::Share },
            _ => wait,
        }
    }

    /// When to ask for a job again; none when only an answer or a new watch can change anything.
    pub(super) fn wake_at(&self, planner: &Planner, now: Instant) -> Option<Instant> {
        self.wait(planner, now).until
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::failure::{Failure, FailureClass};
    use crate::engine::{
        planner::{Outcome, Settings},
        tests::rig::{Rig, SECOND, settings},
    };

    fn quota(requests: &Ceiling, tenant: &str) -> Quota {
        Quota::new(requests.clone(), &Tenant::namespace(&Arc::from(tenant)))
    }

    /// With so many tasks to ask for at once.
    fn planner(tasks: usize) -> Planner {
        let fast = Settings { requests_per_second: 1000.0, burst: 1000, max_in_flight: 1000, ..settings() };
        Rig::with_tasks(fast, tasks, false).planner
    }

    /// Sends what may be sent now, and takes the answers. Returns how much.
    fn pump(quota: &mut Quota, planner: &mut Planner, now: Instant) -> usize {
        let mut sent = 0;
        while let Some(job) = quota.next(planner, now) {
            sent += 1;
            let failure = Failure::new(FailureClass::NotFound, "no");
            planner.done(job.id, Outcome::Task(Err(failure)), 100, None, now);
        }
        sent
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenant_that_has_spent_its_requests_waits_and_others_do_not() {
        let now = Instant::now();
        let requests = Ceiling::new(1000.0, 5.0, now);
        let (mut greedy, mut many) = (quota(&requests, "greedy"), planner(20));
        let (mut modest, mut few) = (quota(&requests, "modest"), planner(3));
        assert_eq!(pump(&mut greedy, &mut many, now), 5);
        assert_eq!(pump(&mut modest, &mut few, now), 3);
        let again = greedy.wake_at(&many, now).unwrap();
        assert!(again > now && again <= now + SECOND, "{:?}", again - now);
        assert_eq!(greedy.wait(&many, now), Wait { until: Some(again), why: Why::Share });
        assert_eq!(pump(&mut greedy, &mut many, now), 0);
        assert_eq!(pump(&mut greedy, &mut many, again), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_nothing_to_send_spends_nothing() {
        let now = Instant::now();
        let requests = Ceiling::new(2.0, 2.0, now);
        let (mut idle, mut nothing) = (quota(&requests, "idle"), planner(0));
        for _ in 0..10 {
            assert!(idle.next(&mut nothing, now).is_none());
        }
        assert_eq!(idle.wake_at(&nothing, now), None);
        assert_eq!(pump(&mut quota(&requests, "busy"), &mut planner(5), now), 2);
    }
}
