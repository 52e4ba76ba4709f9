//! From an answer to what it says: without secrets, without a panic, and large ones aside of the runtime, one after the other.

use std::{borrow::Cow, sync::Arc, time::Duration};

use http::{HeaderValue, StatusCode};
use tokio::{
    task::spawn_blocking,
    time::{Instant, timeout},
};

use super::{Open, planted};
use crate::domain::{
    failure::{DEFECT, Failure, FailureClass},
    redact::Redactor,
    task::{Task, TaskRef},
};
use crate::ops::guard::{Guard, Panicked, Stage};
use crate::providers::{Answer, Page, Reader, auth::Token};
use crate::tenancy::{Tenant, cpu::Meter, pool::Pool};

/// A larger body is decoded aside, in bytes: a smaller one takes less than a millisecond.
const INLINE: usize = 64 << 10;
/// So many entries of a list's slice may be set aside, before the whole slice is.
const SET_ASIDE: usize = 16;

/// Where and on whose account answers are decoded.
#[derive(Clone, Debug)]
pub(super) struct Workbench {
    pub(super) tenant: Tenant,
    pub(super) meter: Meter,
    pub(super) guard: Guard,
    /// Turns to decode something large.
    pub(super) turns: Pool,
}

/// Decodes the answer to one request.
#[derive(Clone, Debug)]
pub(super) struct Decoder {
    pub(super) open: Arc<Open>,
    /// What is taken out of the answer before anything reads it.
    pub(super) before: Arc<Redactor>,
    /// What is taken out of that which was read.
    pub(super) after: Arc<Redactor>,
    pub(super) bench: Workbench,
}

impl Decoder {
    /// The task in an answer.
    pub(super) async fn task(&self, task: &Arc<TaskRef>, answer: Answer) -> Result<Task, Failure> {
        let (open, task) = (Arc::clone(&self.open), Arc::clone(task));
        let read = move |answer: &Answer| {
            planted::strike(&task.id);
            open.connection.provider.decode_task(&task, answer)
        };
        let mut task = self.decode(answer, read).await?;
        self.after.redact_task(&mut task);
        Ok(task)
    }

    /// The sub-tasks of a task in an answer.
    pub(super) async fn subtasks(&self, task: &Arc<TaskRef>, answer: Answer) -> Result<Page, Failure> {
        let (open, task) = (Arc::clone(&self.open), Arc::clone(task));
        let read = move |answer: &Answer| {
            open.connection.provider.decode_list(&task.scope, answer, &mut |id: &str| id == task.id)
        };
        self.decode(answer, read).await.map(|page| self.clean(page))
    }

    /// The token in an answer.
    pub(super) async fn token(&self, answer: Answer, now: jiff::Timestamp) -> Result<Token, Failure> {
        let open = Arc::clone(&self.open);
        self.decode(answer, move |answer| open.connection.credential.decode_token(answer, now)).await
    }

    /// The entries in a slice of a list, or in all of it. An entry that lays a defect open is left out, as if the list did not have it.
    pub(super) fn slice(&self, scope: &str, mut answer: Answer, reader: &mut dyn Reader) -> Result<Page, Failure> {
        let mut replay = Replay { reader, given: Vec::new(), at: 0 };
        for _ in 0..SET_ASIDE {
            replay.at = 0;
            let read = || {
                redact(&self.before, &mut answer);
                self.open.connection.provider.decode_list(scope, &answer, &mut replay)
            };
            match self.bench.guard.run(Stage::Decode, &self.bench.tenant, read) {
                Ok(page) => return page.map(|page| self.clean(page)),
                Err(panicked) if !replay.set_aside() => return Err(defect(&panicked, answer.status)),
                Err(_) => {}
            }
        }
        Err(Failure { code: DEFECT.to_owned(), ..Failure::new(FailureClass::InvalidAnswer, TOO_MANY) })
    }

    /// The last net, over what comes from elsewhere.
    pub(super) fn clean_failure(&self, mut failure: Failure) -> Failure {
        self.after.redact_failure(&mut failure);
        failure
    }

    fn clean(&self, mut page: Page) -> Page {
        for task in &mut page.tasks {
            self.after.redact_task(Arc::make_mut(task));
        }
        page
    }

    async fn decode<T: Send + 'static>(
        &self,
        mut answer: Answer,
        read: impl FnOnce(&Answer) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let is_large = answer.body.len() > INLINE;
        let (before, guard, tenant) = (Arc::clone(&self.before), self.bench.guard.clone(), self.bench.tenant.clone());
        let status = answer.status;
        let work = move || {
            guard.run(Stage::Decode, &tenant, move || {
                redact(&before, &mut answer);
                read(&answer)
            })
        };
        let done = if is_large { self.aside(work).await? } else { work() };
        done.unwrap_or_else(|panicked| Err(defect(&panicked, status)))
    }

    /// Does what takes long where it holds nobody up, when it is the tenant's turn.
    async fn aside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
        let limit = self.open.connection.request_timeout;
        let mut turn = self.bench.turns.lease(&self.bench.tenant);
        timeout(limit, turn.grow(1)).await.map_err(|_| busy(limit))?;
        let meter = self.bench.meter.clone();
        let work = move || {
            let began = Instant::now();
            let done = work();
            meter.spend(began.elapsed());
            // Not before: whoever waits for this may give up, but the work goes on.
            drop(turn);
            done
        };
        spawn_blocking(work).await.map_err(|_| busy(Duration::ZERO))
    }
}

/// Remembers what a reader was asked and said, so that it can be asked the same again.
struct Replay<'r> {
    reader: &'r mut dyn Reader,
    given: Vec<bool>,
    at: usize,
}

impl Replay<'_> {
    /// Leaves out the entry that was asked about last. Returns whether there is one that was not.
    fn set_aside(&mut self) -> bool {
        let last = self.at.checked_sub(1).and_then(|last| self.given.get_mut(last));
        last.is_some_and(std::mem::take)
    }
}

impl Reader for Replay<'_> {
    fn wants(&mut self, id: &str, parent: Option<&str>, print: u64) -> bool {
        let at = self.at;
        self.at += 1;
        if let Some(given) = self.given.get(at) {
            return *given;
        }
        let wanted = self.reader.wants(id, parent, print);
        self.given.push(wanted);
        if wanted {
            planted::strike(id);
        }
        wanted
    }
}

/// Takes secrets out of the body and the header fields of an answer.
pub(super) fn redact(redactor: &Redactor, answer: &mut Answer) {
    if let Cow::Owned(body) = redactor.redact(&answer.body, true) {
        answer.body = body.into();
    }
    for value in answer.headers.values_mut() {
        if let Cow::Owned(clean) = redactor.redact(value.as_bytes(), false) {
            *value = HeaderValue::from_bytes(&clean).unwrap_or_else(|_| HeaderValue::from_static(""));
        }
    }
    if let Some(fault) = &mut answer.fault {
        redactor.redact_failure(fault);
    }
}

const TOO_MANY: &str = "The list has too many entries over which TaskWatch panics, a defect in TaskWatch";

/// The answer laid a defect open.
fn defect(panicked: &Panicked, status: StatusCode) -> Failure {
    let message = format!("The upstream's answer cannot be processed: {panicked}. The answer is set aside");
    let http_status = Some(status.as_u16());
    Failure { code: DEFECT.to_owned(), http_status, ..Failure::new(FailureClass::InvalidAnswer, message) }
}

/// Others were served meanwhile.
fn busy(waited: Duration) -> Failure {
    let message = format!(
        "A large answer waited {} s for its turn to be decoded: the operator is busy with answers of this size",
        waited.as_secs()
    );
    Failure { code: "Busy".to_owned(), ..Failure::new(FailureClass::UpstreamUnavailable, message) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct AllButB {
        asked: Vec<String>,
    }

    impl Reader for AllButB {
        fn wants(&mut self, id: &str, _: Option<&str>, _: u64) -> bool {
            self.asked.push(id.to_owned());
            id != "b"
        }
    }

    #[test]
    fn who_is_asked_again_says_the_same_but_of_what_was_set_aside() {
        let mut reader = AllButB::default();
        let mut replay = Replay { reader: &mut reader, given: Vec::new(), at: 0 };
        let ask = |replay: &mut Replay<'_>, ids: &[&str]| {
            replay.at = 0;
            ids.iter().map(|id| replay.wants(id, None, 0)).collect::<Vec<_>>()
        };
        assert!(!replay.set_aside(), "nothing was asked");
        assert_eq!(ask(&mut replay, &["a", "b", "c"]), [true, false, true]);
        assert!(replay.set_aside());
        assert_eq!(ask(&mut replay, &["a", "b", "c", "d"]), [true, false, false, true]);
        ask(&mut replay, &["a", "b", "c"]);
        assert!(!replay.set_aside(), "it is not wanted already, so it is not what panics");
        assert_eq!(reader.asked, ["a", "b", "c", "d"]);
    }
}
