//! An upstream on 127.0.0.1, in the test's own runtime: tasks as Astra Control shows them, jobs as Huawei Cloud does, and tokens of an
//! identity service. Faults come on demand, and all that is asked is noted.

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, request::Parts};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::ops::clock::Clock;

/// How long a token is good for.
const TOKEN_LIFE: SignedDuration = SignedDuration::from_hours(1);

/// An upstream. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Upstream {
    world: Arc<Mutex<World>>,
    clock: Clock,
    endpoint: String,
}

/// What an upstream has, and what it was asked.
#[derive(Default)]
pub(crate) struct World {
    /// By identifier; each is shown as it stands here.
    tasks: BTreeMap<String, Value>,
    /// What was asked, and with which credential.
    asked: Vec<(String, String)>,
    /// What is answered to the next requests that begin so, instead of what there is.
    instead: VecDeque<(&'static str, Instead)>,
    /// Entries of a page; 0 for no pages.
    page: usize,
    /// How many tokens were given.
    tokens: usize,
}

/// What is answered instead.
#[derive(Clone)]
pub(crate) enum Instead {
    /// This status, with these header fields, and this body.
    Answer(u16, &'static [(&'static str, &'static str)], String),
    /// Nothing.
    Silence,
}

impl Upstream {
    /// One whose clock is this.
    pub(crate) async fn start(clock: Clock) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let world = Arc::new(Mutex::new(World::default()));
        let shown = Self { world, clock, endpoint };
        let upstream = shown.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let upstream = upstream.clone();
                let serve = service_fn(move |request| upstream.clone().serve(request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), serve));
            }
        });
        shown
    }

    /// Where it is.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Has a task in this state, with these fields beside.
    pub(crate) fn set(&self, id: &str, state: &str, more: &Value) {
        let mut task = json!({"id": id, "state": state});
        task.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        self.world().tasks.insert(id.to_owned(), task);
    }

    /// Has a task no more.
    pub(crate) fn forget(&self, id: &str) {
        self.world().tasks.remove(id);
    }

    /// Answers the next request that begins with `line` otherwise.
    pub(crate) fn instead(&self, line: &'static str, instead: Instead) {
        self.world().instead.push_back((line, instead));
    }

    /// Lists so many tasks a page.
    pub(crate) fn page(&self, entries: usize) {
        self.world().page = entries;
    }

    /// What was asked since this was called last.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked_by().into_iter().map(|(line, _)| line).collect()
    }

    /// The same, each with the credential that it came with.
    pub(crate) fn asked_by(&self) -> Vec<(String, String)> {
        std::mem::take(&mut self.world().asked)
    }

    /// How many requests that begin with `line` there were since.
    pub(crate) fn count(&self, line: &str) -> usize {
        self.world().asked.iter().filter(|(asked, _)| asked.starts_with(line)).count()
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    async fn serve(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        // Read to its end, or the connection would not be used again.
        let _ = body.collect().await;
        let line = line(&head);
        let field = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        let credential = field("authorization").or_else(|| field("x-auth-token")).unwrap_or_default();
        let instead = {
            let mut world = self.world();
            world.asked.push((line.clone(), credential));
            let at = world.instead.iter().position(|(begins, _)| line.starts_with(begins));
            at.and_then(|at| world.instead.remove(at)).map(|(_, instead)| instead)
        };
        Ok(match instead {
            Some(Instead::Silence) => std::future::pending().await,
            Some(Instead::Answer(status, fields, body)) => {
                let mut response = Response::builder().status(status);
                for (name, value) in fields {
                    response = response.header(*name, *value);
                }
                response.body(Full::new(Bytes::from(body))).unwrap()
            }
            None => self.world().answer(&line, self.clock.now()),
        })
    }
}

/// What is asked, in a few words: `get t`, `list`, `list a` (from `a` on), `parts t`, `job t`, `token`.
fn line(head: &Parts) -> String {
    let query: BTreeMap<_, _> = url::form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes()).collect();
    let segments: Vec<_> = head.uri.path().split('/').filter(|part| !part.is_empty()).collect();
    match (&head.method, &segments[..]) {
        (&Method::GET, ["accounts", _, "core", "v1", "tasks", id]) => format!("get {id}"),
        (&Method::GET, ["accounts", account, "core", "v1", "tasks"]) => {
            let parent =
                query.get("filter").map(|filter| filter.trim_start_matches("parentTaskID eq ").replace('\'', ""));
            let from = query.get("continue").map(|from| format!(" {from}")).unwrap_or_default();
            parent.map_or_else(|| format!("list {account}{from}"), |parent| format!("parts {parent}"))
        }
        (&Method::GET, ["v1", _, "jobs", id]) => format!("job {id}"),
        (&Method::POST, ["v3", "auth", "tokens"]) => "token".to_owned(),
        (method, _) => format!("{method} {}", head.uri),
    }
}

impl World {
    fn answer(&mut self, line: &str, now: Timestamp) -> Response<Full<Bytes>> {
        let (what, of) = line.split_once(' ').unwrap_or((line, ""));
        match what {
            "get" => self.tasks.get(of).map_or_else(|| not_found(of), |task| shown(StatusCode::OK, task)),
            "parts" => self.list(|task| task["parentTaskID"] == *of, ""),
            "list" => self.list(|_| true, of.split_once(' ').map_or("", |(_, from)| from)),
            "job" => match self.tasks.get(of) {
                Some(task) => shown(StatusCode::OK, &json!({"job_id": of, "status": task["state"]})),
                None => {
                    shown(StatusCode::NOT_FOUND, &json!({"code": "Common.0011", "message": "the job does not exist"}))
                }
            },
            "token" => {
                self.tokens += 1;
                let expires = now + TOKEN_LIFE;
                let mut response = shown(StatusCode::CREATED, &json!({"token": {"expires_at": expires.to_string()}}));
                let token = format!("issued-token-number-{}", self.tokens);
                response.headers_mut().insert("x-subject-token", token.parse().unwrap());
                response
            }
            _ => shown(StatusCode::BAD_REQUEST, &json!({"title": line})),
        }
    }

    fn list(&self, is_one: impl Fn(&Value) -> bool, from: &str) -> Response<Full<Bytes>> {
        let mut left = self.tasks.range(from.to_owned()..).filter(|(_, task)| is_one(task));
        let most = if self.page == 0 { usize::MAX } else { self.page };
        let items: Vec<_> = left.by_ref().take(most).map(|(_, task)| task).collect();
        let metadata = left.next().map_or_else(|| json!({}), |(next, _)| json!({"continue": next}));
        shown(StatusCode::OK, &json!({"items": items, "metadata": metadata}))
    }
}

fn not_found(id: &str) -> Response<Full<Bytes>> {
    let problem = json!({"type": "https://astra.netapp.io/problems/1", "title": "Resource not found",
        "detail": format!("there is no task {id}"), "status": "404"});
    shown(StatusCode::NOT_FOUND, &problem)
}

fn shown(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let response = Response::builder().status(status).header("content-type", "application/json");
    response.body(Full::new(Bytes::from(body.to_string()))).unwrap()
}
