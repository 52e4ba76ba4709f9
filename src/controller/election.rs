//! A replica's part in the election of owners: reads the Leases, writes its own, and has the controller take up and lay down what they
//! are about. What is to be done is decided in [`crate::ownership::elect`].

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Client, Resource,
    api::{DeleteParams, ListParams, PostParams},
    core::{ObjectList, Request},
};
use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{Controller, Error, call};
use crate::{
    ops::{args::RunArgs, health::Readiness},
    ownership::{
        Buckets, Pass,
        elect::{Elector, Move, Times},
        record::{Form, LABEL, Subject},
    },
};

/// How long a call may take: a third of the least time that a Lease is good for.
const CALL: Duration = Duration::from_secs(3);
/// How long the Leases may take to be let go of at the end.
const RESIGN: Duration = Duration::from_secs(3);

/// A replica among others.
pub(super) struct Election {
    leases: Leases,
    form: Form,
    elector: Elector,
    times: Times,
    buckets: Buckets,
    standings: Vec<Standing>,
    /// What went wrong last, that it is said once.
    trouble: Option<String>,
}

/// How a replica stands towards a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Other,
    /// It holds the bucket, until then.
    Owner(Instant),
}

impl Election {
    /// The part of this replica; none where it is the only one.
    pub(super) fn new(args: &RunArgs, client: &Client, buckets: &Buckets) -> Option<Self> {
        let count = args.lease_buckets();
        if count == 0 {
            return None;
        }
        let times = Times::new(args.lease_duration_seconds);
        let identity: Arc<str> = identity().into();
        let name: Arc<str> = args.lease.name.as_str().into();
        Some(Self {
            leases: Leases { client: client.clone(), namespace: args.lease_namespace() },
            elector: Elector::new(Arc::clone(&identity), count, times),
            form: Form { name, identity, buckets: count, duration: times.duration() },
            times,
            buckets: buckets.clone(),
            standings: vec![Standing::Other; usize::from(count)],
            trouble: None,
        })
    }

    /// Takes part until the end, then lets go of everything.
    pub(super) async fn run(mut self, controller: Arc<Controller>, ready: Readiness, end: CancellationToken) {
        loop {
            // Not given up half-way: what was written then would not be known.
            let round = self.round(&controller).await;
            self.settle(&controller);
            let now = Instant::now();
            let again = match &round {
                Ok(()) => {
                    ready.done();
                    self.elector.look_at(now)
                }
                Err(_) => now + self.times.looked_at_every(),
            };
            self.report(round);
            tokio::select! {
                () = sleep_until(again) => {}
                () = end.cancelled() => break,
            }
        }
        if timeout(RESIGN, self.resign()).await.is_err() {
            warn!("the leases could not be let go of in time: another replica takes over when they have expired");
        }
    }

    /// Looks at all Leases, and makes what moves are due.
    async fn round(&mut self, controller: &Controller) -> Result<(), Error> {
        let all = self.leases.list(&self.form.name).await?;
        let ours = all.iter().filter_map(|lease| Some((self.form.subject(lease)?, Form::read(lease))));
        self.elector.see(ours, Instant::now());
        let mut failed = Ok(());
        let moves = self.elector.moves(Instant::now());
        self.leave(controller, &moves).await;
        for act in moves {
            let done = match &act {
                Move::Hold(subject) => self.hold(subject).await,
                Move::Free(number) => self.free(&Subject::Bucket(*number)).await,
                Move::Forget(identity) => self.delete(&Subject::Replica(Arc::clone(identity))).await,
            };
            match done {
                Ok(()) => {}
                Err(Error::TimedOut) => return done,
                Err(error) => failed = Err(error),
            }
        }
        failed
    }

    /// Ends the work on the account of the buckets that are to be freed: nothing may be under way any more when another replica begins.
    async fn leave(&mut self, controller: &Controller, moves: &[Move]) {
        let freed = moves.iter().filter_map(|act| if let Move::Free(number) = act { Some(*number) } else { None });
        let freed: Vec<_> = freed.collect();
        for number in &freed {
            self.lay_down(controller, *number);
        }
        let end = Instant::now() + self.times.looked_at_every();
        for number in freed {
            let bucket = self.buckets.bucket(number);
            if timeout_at(end, bucket.is_idle()).await.is_err() {
                debug!(bucket = number, "what could not be written in time is left to the next owner");
            }
            bucket.let_go();
        }
    }

    async fn hold(&mut self, subject: &Subject) -> Result<(), Error> {
        let (old, sent) = (self.elector.record(subject), Instant::now());
        let lease = self.form.held(subject, old, Timestamp::now());
        if let Some(written) = self.leases.write(&lease, old.is_none()).await? {
            self.elector.wrote(subject, Form::read(&written), sent);
        }
        Ok(())
    }

    async fn free(&mut self, subject: &Subject) -> Result<(), Error> {
        let Some(old) = self.elector.record(subject) else { return Ok(()) };
        let lease = self.form.free(subject, old);
        if let Some(written) = self.leases.write(&lease, false).await? {
            self.elector.wrote(subject, Form::read(&written), Instant::now());
        }
        Ok(())
    }

    async fn delete(&self, subject: &Subject) -> Result<(), Error> {
        self.leases.delete(&self.form.name_of(subject)).await
    }

    /// Acts upon what the Leases say now.
    fn settle(&mut self, controller: &Controller) {
        for number in 0..self.elector.count() {
            let bucket = self.buckets.bucket(number);
            let before = self.standings[usize::from(number)];
            let Some(until) = self.elector.held_until(number) else {
                bucket.let_go();
                self.lay_down(controller, number);
                continue;
            };
            bucket.hold_until(until);
            self.standings[usize::from(number)] = Standing::Owner(until);
            match before {
                Standing::Other => {
                    info!(bucket = number, "this replica is the owner from now on");
                    controller.take_over(number);
                }
                // Whatever was looked at in between was passed over.
                Standing::Owner(until) if until <= Instant::now() => {
                    warn!(bucket = number, "the lease could not be renewed in time; it is this replica's again");
                    controller.look_at_bucket(number);
                }
                Standing::Owner(_) => {}
            }
        }
    }

    /// The bucket is another's, or nobody's, or about to be: no more work begins, and nothing is asked.
    fn lay_down(&mut self, controller: &Controller, number: u16) {
        self.buckets.bucket(number).close();
        if std::mem::replace(&mut self.standings[usize::from(number)], Standing::Other) != Standing::Other {
            info!(bucket = number, "this replica is the owner no more");
            controller.hand_over(number);
        }
    }

    /// Lets go of everything: others take over at their next look.
    async fn resign(&mut self) {
        for number in 0..self.elector.count() {
            self.buckets.bucket(number).let_go();
            if self.elector.is_mine(number)
                && let Err(error) = self.free(&Subject::Bucket(number)).await
            {
                warn!(bucket = number, %error, "the lease could not be let go of");
            }
        }
        if self.elector.count() > 1 {
            let subject = Subject::Replica(Arc::clone(&self.form.identity));
            if let Err(error) = self.delete(&subject).await {
                warn!(%error, "the lease of this replica could not be deleted");
            }
        }
    }

    /// Says what goes wrong, once, and when it does no more.
    fn report(&mut self, round: Result<(), Error>) {
        let trouble = round.err().map(|error| error.to_string());
        if trouble == self.trouble {
            return;
        }
        if let Some(error) = &trouble {
            warn!(
                namespace = self.leases.namespace,
                "the leases cannot be read or written: {error}. A replica without a lease does nothing: apply the role taskwatch-leases \
                 (deploy/operator/leases.yaml), or run a single replica with --lease-buckets=0"
            );
        } else {
            info!("the leases can be read and written again");
        }
        self.trouble = trouble;
    }
}

/// The name of this replica. A pod's is its own, also after its container was started anew; elsewhere each process has another.
fn identity() -> String {
    let pod = std::env::var("POD_NAME").ok().filter(|name| !name.is_empty());
    // A hasher's keys are random.
    let random = RandomState::new().hash_one(std::process::id());
    pod.unwrap_or_else(|| format!("taskwatch-{random:016x}"))
}

/// The Leases of a namespace.
struct Leases {
    client: Client,
    namespace: String,
}

impl Leases {
    fn requests(&self) -> Request {
        Request::new(Lease::url_path(&(), Some(&self.namespace)))
    }

    async fn list(&self, name: &str) -> Result<Vec<Lease>, Error> {
        let request = self.requests().list(&ListParams::default().labels(&format!("{LABEL}={name}")))?;
        Ok(self.send::<ObjectList<Lease>>(request).await?.items)
    }

    /// Creates or replaces a Lease. None where another replica was first.
    async fn write(&self, lease: &Lease, is_new: bool) -> Result<Option<Lease>, Error> {
        let body = serde_json::to_vec(lease)?;
        let name = lease.metadata.name.as_deref().unwrap_or_default();
        let params = PostParams::default();
        let requests = self.requests();
        let request = if is_new { requests.create(&params, body)? } else { requests.replace(name, &params, body)? };
        match self.send(request).await {
            Ok(lease) => Ok(Some(lease)),
            Err(Error::Api(kube::Error::Api(status)))
                if status.is_conflict() || status.is_already_exists() || status.is_not_found() && !is_new =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn delete(&self, name: &str) -> Result<(), Error> {
        let request = self.requests().delete(name, &DeleteParams::default())?;
        match self.send::<IgnoredAny>(request).await {
            Ok(_) => Ok(()),
            Err(Error::Api(kube::Error::Api(status))) if status.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn send<T: DeserializeOwned>(&self, mut request: http::Request<Vec<u8>>) -> Result<T, Error> {
        request.extensions_mut().insert(Pass::Election);
        timeout(CALL, call(self.client.request(request))).await.map_err(|_| Error::TimedOut)?
    }
}
