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
use crate::ops::guard::{Guard, Panicked, Stage, Subject};
use crate::providers::{Answer, Page, Provider, Scan, auth::Token};
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
        let read =
            move |answer: &Answer| open.connection.provider.decode_list(&task.scope, answer, &|id| id == task.id);
        self.decode(answer, read).await.map(|page| self.clean(page))
    }

    /// The token in an answer.
    pub(super) async fn token(&self, answer: Answer, now: jiff::Timestamp) -> Result<Token, Failure> {
        let open = Arc::clone(&self.open);
        self.decode(answer, move |answer| open.connection.credential.decode_token(answer, now)).await
    }

    /// Finds the entries of a list, or of a slice of one.
    pub(super) fn scan(&self, scope: &str, mut answer: Answer) -> Result<Scan, Failure> {
        let (status, provider) = (answer.status, &self.open.connection.provider);
        let find = || {
            redact(&self.before, &mut answer);
            provider.scan_list(scope, &answer, &|_, _| true)
        };
        let found = self.bench.guard.run(Stage::Decode, || Subject::new(&self.bench.tenant, &self.bench.tenant), find);
        found.unwrap_or_else(|panicked| Err(defect(&panicked, status)))
    }

    /// Reads those of the entries that are wanted: `wanted` has a word on each. One that lays a defect open is left out, as if the list did
    /// not have it.
    pub(super) fn entries(&self, scan: Scan, wanted: &[bool]) -> Result<Page, Failure> {
        let Workbench { guard, tenant, .. } = &self.bench;
        let tasks = entries(self.open.connection.provider.as_ref(), &scan, wanted, guard, tenant)?;
        Ok(self.clean(scan.into_page(tasks)))
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
            guard.run(
                Stage::Decode,
                || Subject::new(&tenant, &tenant),
                || {
                    redact(&before, &mut answer);
                    read(&answer)
                },
            )
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

/// The wanted entries, but for those that lay a defect open.
fn entries(
    provider: &dyn Provider,
    scan: &Scan,
    wanted: &[bool],
    guard: &Guard,
    tenant: &Tenant,
) -> Result<Vec<Arc<Task>>, Failure> {
    let mut left = scan.found().iter().zip(wanted).filter_map(|(entry, wanted)| wanted.then_some(entry));
    let mut tasks = Vec::new();
    for _ in 0..SET_ASIDE {
        // What follows an entry that was set aside is read on.
        let read = || {
            for entry in left.by_ref() {
                planted::strike(&entry.id);
                tasks.extend(provider.decode_entry(scan, entry).map(Arc::new));
            }
        };
        if guard.run(Stage::Decode, || Subject::new(tenant, tenant), read).is_ok() {
            return Ok(tasks);
        }
    }
    Err(Failure { code: DEFECT.to_owned(), ..Failure::new(FailureClass::InvalidAnswer, TOO_MANY) })
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
    use http::HeaderMap;

    use super::*;
    use crate::{
        domain::redact::Secret,
        ops::metrics::Metrics,
        providers::{Request, registry, wire::list::Found},
    };

    /// Reads as Astra Control does, but for the entries of which it panics.
    #[derive(Debug)]
    struct Defective(Arc<dyn Provider>);

    impl Provider for Defective {
        fn name(&self) -> &str {
            self.0.name()
        }
        fn default_scope(&self) -> &str {
            self.0.default_scope()
        }
        fn task_request(&self, task: &TaskRef) -> Request {
            self.0.task_request(task)
        }
        fn decode_task(&self, task: &TaskRef, answer: &Answer) -> Result<Task, Failure> {
            self.0.decode_task(task, answer)
        }
        fn scan_list(
            &self,
            scope: &str,
            answer: &Answer,
            wants: &dyn Fn(&str, Option<&str>) -> bool,
        ) -> Result<Scan, Failure> {
            self.0.scan_list(scope, answer, wants)
        }
        fn decode_entry(&self, scan: &Scan, entry: &Found) -> Option<Task> {
            assert!(!entry.id.starts_with("bad"), "a defect");
            self.0.decode_entry(scan, entry)
        }
    }

    fn read(ids: &[&str], wants: impl Fn(&str) -> bool) -> Result<Vec<String>, Failure> {
        let provider = Defective(registry::find("astraControl").unwrap().plain());
        let items: Vec<_> = ids.iter().map(|id| format!(r#"{{"id":"{id}","state":"running"}}"#)).collect();
        let body = format!(r#"{{"items":[{}]}}"#, items.join(","));
        let answer = Answer { status: StatusCode::OK, headers: HeaderMap::new(), body: body.into(), fault: None };
        let scan = provider.scan_list("", &answer, &|_, _| true).unwrap();
        let wanted: Vec<_> = scan.found().iter().map(|entry| wants(&entry.id)).collect();
        let tasks = entries(&provider, &scan, &wanted, &Guard::new(Metrics::new()), &Tenant::shared());
        tasks.map(|tasks| tasks.iter().map(|task| task.id.clone()).collect())
    }

    #[test]
    fn secrets_are_taken_out_of_all_parts_of_an_answer_and_what_begins_one_at_the_end_of_a_body() {
        let redactor = Redactor::new([Secret::value("a-token-of-somebody")]);
        let field = |text| HeaderMap::from_iter([(http::header::LOCATION, HeaderValue::from_static(text))]);
        let answer = |body: &'static str, headers| Answer {
            status: StatusCode::OK,
            headers,
            body: body.into(),
            fault: Some(Failure::new(FailureClass::InvalidAnswer, "by a-token-of-somebody")),
        };
        for (said, body, location) in [
            ("by a-token-of-somebody else", "by [redacted] else", "by [redacted] else"),
            ("by a-token-of", "by [redacted]", "by a-token-of"),
        ] {
            let mut answer = answer(said, field(said));
            redact(&redactor, &mut answer);
            assert_eq!(
                (&*answer.body, answer.headers[http::header::LOCATION].as_bytes()),
                (body.as_bytes(), location.as_bytes())
            );
            assert_eq!(answer.fault.unwrap().message, "by [redacted]");
        }
    }

    #[test]
    fn an_entry_that_lays_a_defect_open_is_left_out_and_the_others_are_read() {
        assert_eq!(read(&["a", "bad", "b", "bad2", "c"], |id| id != "b").unwrap(), ["a", "c"]);
        assert_eq!(read(&["bad", "a"], |id| id == "a").unwrap(), ["a"], "what is not wanted is not read");
        let most = SET_ASIDE - 1;
        assert_eq!(read(&[vec!["bad"; most], vec!["a"]].concat(), |_| true).unwrap(), ["a"]);
        let failure = read(&[vec!["bad"; most + 1], vec!["a"]].concat(), |_| true).unwrap_err();
        assert_eq!(failure.code, DEFECT);
    }
}
