//! The pages of the port that others than the kubelet reach: which there are, and who may read them.

use std::{
    future::Future,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::StatusCode;
use tokio::{runtime::Handle, sync::Semaphore, time::timeout};

use super::{
    authorization::{Authorizer, NoVerdict, Verdict},
    debug::{Question, Respondent},
    metrics::{CONTENT_TYPE, Metrics},
    server::{Answer, Reply, Request},
};
use crate::sync::lock;

/// Metrics are rendered at most this often: who asks more often gets what was rendered last.
const RENDER_EVERY: Duration = Duration::from_millis(200);
/// How long an answer that is not at hand may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(7);
/// Most questions about connections that are being answered at a time.
const QUESTIONS: usize = 2;

const METRICS: &str = "/metrics";
const CONNECTIONS: &str = "/debug/connections";

/// The pages. Clones are the same ones.
#[derive(Clone)]
pub struct Pages(Arc<Inner>);

struct Inner {
    metrics: Metrics,
    rendered: Mutex<Option<(Instant, Bytes)>>,
    respondent: Respondent,
    questions: Semaphore,
    authorizer: Option<Authorizer>,
    /// Where answers are made that take time; none without a runtime, as in tests.
    runtime: Option<Handle>,
}

/// A page that somebody may read.
#[derive(Clone, Debug)]
enum Page {
    Metrics,
    Connections(Question),
}

impl Page {
    fn path(&self) -> &'static str {
        match self {
            Self::Metrics => METRICS,
            Self::Connections(_) => CONNECTIONS,
        }
    }
}

impl Pages {
    /// The pages; for those alone whom `authorizer` lets read them, where there is one.
    #[must_use]
    pub fn new(metrics: Metrics, respondent: Respondent, authorizer: Option<Authorizer>) -> Self {
        Self(Arc::new(Inner {
            metrics,
            rendered: Mutex::default(),
            respondent,
            questions: Semaphore::new(QUESTIONS),
            authorizer,
            runtime: Handle::try_current().ok(),
        }))
    }

    /// What becomes of a request.
    pub(super) fn reply(&self, request: &Request) -> Reply {
        let page = match request.path() {
            METRICS => Page::Metrics,
            CONNECTIONS => match Question::parse(request.query()) {
                Ok(question) => Page::Connections(question),
                Err(what) => return Answer::text(StatusCode::BAD_REQUEST, what + "\n").into(),
            },
            _ => return Answer::text(StatusCode::NOT_FOUND, NOT_FOUND).into(),
        };
        let is_open = match &page {
            // They say nothing of tenants but the names of the busiest, and are what everybody's monitoring asks for.
            Page::Metrics => self.0.authorizer.is_none(),
            Page::Connections(_) => request.is_local(),
        };
        if is_open {
            return self.show(request, page);
        }
        let Some(authorizer) = &self.0.authorizer else {
            return Answer::text(StatusCode::FORBIDDEN, NOT_LOCAL).into();
        };
        let Some(token) = request.token() else { return refused(Verdict::Unknown).into() };
        match authorizer.known(token, page.path()) {
            Some(Verdict::Allowed) => self.show(request, page),
            Some(verdict) => refused(verdict).into(),
            None => {
                let (pages, authorizer, token, peer) =
                    (self.clone(), authorizer.clone(), token.to_owned(), request.peer());
                self.later(request, async move {
                    match authorizer.judge(&token, page.path(), peer).await {
                        Ok(Verdict::Allowed) => pages.answer(page).await,
                        Ok(verdict) => refused(verdict),
                        Err(NoVerdict::TooMany) => Answer::text(StatusCode::TOO_MANY_REQUESTS, TOO_MANY),
                        Err(NoVerdict::Failed) => Answer::text(StatusCode::SERVICE_UNAVAILABLE, NOT_REVIEWED),
                    }
                })
            }
        }
    }

    /// To who may read it.
    fn show(&self, request: &Request, page: Page) -> Reply {
        match page {
            Page::Metrics => self.metrics().into(),
            Page::Connections(_) => {
                let pages = self.clone();
                self.later(request, async move { pages.answer(page).await })
            }
        }
    }

    fn later(&self, request: &Request, answer: impl Future<Output = Answer> + Send + 'static) -> Reply {
        let Some(runtime) = &self.0.runtime else {
            return Answer::text(StatusCode::SERVICE_UNAVAILABLE, NOT_READY).into();
        };
        let (promise, pending) = request.later();
        runtime.spawn(async move {
            let late = || Answer::text(StatusCode::SERVICE_UNAVAILABLE, "there was no answer in time\n");
            promise.keep(timeout(ANSWER_TIMEOUT, answer).await.unwrap_or_else(|_| late()));
        });
        Reply::Later(pending)
    }

    async fn answer(&self, page: Page) -> Answer {
        let question = match page {
            Page::Metrics => return self.metrics(),
            Page::Connections(question) => question,
        };
        let Ok(_place) = self.0.questions.try_acquire() else {
            return Answer::text(StatusCode::TOO_MANY_REQUESTS, "others ask at the moment; try again\n");
        };
        let content_type = if question.json { "application/json" } else { "text/plain; charset=utf-8" };
        match self.0.respondent.ask(question).await {
            Some(text) => Answer { status: StatusCode::OK, content_type, body: text.into() },
            None => Answer::text(StatusCode::SERVICE_UNAVAILABLE, NOT_READY),
        }
    }

    fn metrics(&self) -> Answer {
        Answer { status: StatusCode::OK, content_type: CONTENT_TYPE, body: self.render() }
    }

    /// Shared by all who ask at about the same time, however slowly they read it.
    fn render(&self) -> Bytes {
        let mut rendered = lock(&self.0.rendered);
        match &*rendered {
            Some((at, text)) if at.elapsed() < RENDER_EVERY => text.clone(),
            _ => {
                let text = Bytes::from(self.0.metrics.render());
                *rendered = Some((Instant::now(), text.clone()));
                text
            }
        }
    }
}

fn refused(verdict: Verdict) -> Answer {
    match verdict {
        Verdict::Unknown => Answer::text(StatusCode::UNAUTHORIZED, UNKNOWN),
        Verdict::Forbidden | Verdict::Allowed => Answer::text(StatusCode::FORBIDDEN, FORBIDDEN),
    }
}

const NOT_FOUND: &str = "there are /metrics and /debug/connections; probes are on another port\n";
const NOT_LOCAL: &str = "this page is shown to who asks from the pod itself (kubectl port-forward, then localhost), or, with \
                         --http-authorization, to who may get it\n";
const UNKNOWN: &str = "give a bearer token that the Kubernetes API server knows\n";
const FORBIDDEN: &str = "a role with the verb get on this path (nonResourceURLs) is needed\n";
const TOO_MANY: &str = "too many tokens to ask the Kubernetes API server about; try again\n";
const NOT_REVIEWED: &str = "the Kubernetes API server does not say who this is; the operator's log has the reason\n";
const NOT_READY: &str = "the operator is starting\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_who_ask_at_a_time_share_one_text() {
        let pages = Pages::new(Metrics::new(), Respondent::default(), None);
        let (one, other) = (pages.render(), pages.render());
        assert_eq!(one.as_ptr(), other.as_ptr());
        *lock(&pages.0.rendered) = Some((Instant::now().checked_sub(RENDER_EVERY).unwrap(), one));
        assert_ne!(pages.render().as_ptr(), other.as_ptr());
    }
}
