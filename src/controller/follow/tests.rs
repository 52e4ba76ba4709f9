//! Following, against an API server that is a function: what it is asked, and what becomes of what it answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tower::service_fn;

use super::*;
use crate::{api::TaskWatch, controller::readable::NamespaceLabels, ops::health::Health};

/// An API server with objects of one kind.
#[derive(Default)]
struct Server {
    state: Mutex<State>,
    pages_at_once: AtomicUsize,
    most_at_once: AtomicUsize,
}

#[derive(Default)]
struct State {
    version: u64,
    objects: BTreeMap<String, (u64, usize)>,
    /// What was asked, less the collection's path.
    asked: Vec<String>,
    watch: Option<mpsc::Sender<Vec<u8>>>,
    /// What the next requests are refused with.
    refusals: Vec<(u16, Value)>,
    /// Pages never come to their end.
    stalls: bool,
}

impl State {
    fn put(&mut self, name: &str, padding: usize) {
        self.version += 1;
        self.objects.insert(name.to_owned(), (self.version, padding));
    }

    fn object(&self, name: &str) -> Value {
        let (version, padding) = self.objects[name];
        json!({"apiVersion": "taskwatch.dev/v1alpha1", "kind": "TaskWatch",
            "metadata": {"annotations": {"padding": "x".repeat(padding)}, "name": name, "namespace": "n",
                "uid": format!("uid-{name}"), "resourceVersion": version.to_string()},
            "spec": {"connectionRef": {"name": "c"}, "task": {"id": "t"}}})
    }

    fn outline(&self, name: &str) -> Value {
        let mut object = self.object(name);
        object["metadata"]["annotations"] = json!({});
        object
    }

    fn list(&self, query: &BTreeMap<String, String>, metadata_only: bool) -> Value {
        let limit: usize = query["limit"].parse().unwrap();
        let after = query.get("continue").cloned().unwrap_or_default();
        let selected = query.get("fieldSelector").map(|selector| selector.strip_prefix("metadata.name=").unwrap());
        let names: Vec<_> = self
            .objects
            .keys()
            .filter(|name| **name > after && selected.is_none_or(|selected| selected == *name))
            .collect();
        let page = &names[..limit.min(names.len())];
        let more = if page.len() < names.len() { page.last().map_or("", |name| name.as_str()) } else { "" };
        let items: Vec<_> =
            page.iter().map(|name| if metadata_only { self.outline(name) } else { self.object(name) }).collect();
        json!({"items": items, "metadata": {"resourceVersion": self.version.to_string(), "continue": more}})
    }
}

impl Server {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn answer(self: &Arc<Self>, request: &Request<Body>) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
        let query = request.uri().query().unwrap_or_default();
        let pairs: BTreeMap<String, String> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let accept = request.headers()["accept"].to_str().unwrap();
        let metadata_only = accept.contains("PartialObjectMetadata");
        let mut state = self.state();
        state.asked.push(format!("{}{}", if metadata_only { "metadata " } else { "" }, query.replace('&', " ")));
        if let Some((code, body)) = state.refusals.pop() {
            let body = Full::new(Bytes::from(body.to_string())).boxed_unsync();
            return Response::builder().status(StatusCode::from_u16(code).unwrap()).body(body).unwrap();
        }
        let (sender, mut parts) = mpsc::channel(1_000);
        if pairs.contains_key("watch") {
            // No event is a list: as the API server does it, the watch ends at the first one.
            if accept.contains("PartialObjectMetadataList") {
                parts.close();
            }
            state.watch = Some(sender);
        } else {
            let at_once = self.pages_at_once.fetch_add(1, Relaxed) + 1;
            self.most_at_once.fetch_max(at_once, Relaxed);
            let (text, stalls) = (state.list(&pairs, metadata_only).to_string().into_bytes(), state.stalls);
            let server = Arc::clone(self);
            tokio::spawn(async move {
                for part in text.chunks(100_000) {
                    tokio::task::yield_now().await;
                    if sender.send(part.to_vec()).await.is_err() {
                        break;
                    }
                }
                if stalls {
                    sender.closed().await;
                }
                server.pages_at_once.fetch_sub(1, Relaxed);
            });
        }
        let stream = futures::stream::poll_fn(move |context| {
            parts.poll_recv(context).map(|part| part.map(|part| Ok::<_, Infallible>(Frame::data(Bytes::from(part)))))
        });
        Response::new(StreamBody::new(stream).boxed_unsync())
    }

    async fn tell(&self, kind: &str, object: Value) {
        let sender = eventually(|| self.state().watch.clone()).await;
        let line = format!("{}\n", json!({"type": kind, "object": object}));
        sender.send(line.into_bytes()).await.unwrap();
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.state().asked)
    }
}

/// Waits until there is something, at most ten minutes of the paused clock.
async fn eventually<T>(mut find: impl FnMut() -> Option<T>) -> T {
    for _ in 0..60_000 {
        if let Some(found) = find() {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not happen")
}

/// Names and versions of the objects that were taken in.
#[derive(Default)]
struct Taken {
    objects: Mutex<BTreeMap<String, u64>>,
    replaced: AtomicUsize,
}

impl Taken {
    fn names(&self) -> Vec<String> {
        self.objects.lock().unwrap().keys().cloned().collect()
    }

    fn forget(&self, name: &str) {
        self.objects.lock().unwrap().remove(name);
    }
}

impl Target<TaskWatch> for Arc<Taken> {
    type Key = String;

    fn put(&self, object: TaskWatch) -> Option<String> {
        let key = object.metadata.name.clone()?;
        self.objects.lock().unwrap().insert(key.clone(), version(&object.metadata));
        Some(key)
    }
    fn remove(&self, key: &String) {
        self.forget(key);
    }
    fn key(&self, meta: &ObjectMeta) -> Option<String> {
        meta.name.clone()
    }
    fn keys(&self) -> Vec<String> {
        self.names()
    }
    fn known_version(&self, key: &String) -> Option<u64> {
        self.objects.lock().unwrap().get(key).copied()
    }
    fn history_replaced(&self) {
        self.objects.lock().unwrap().values_mut().for_each(|version| *version = 0);
        self.replaced.fetch_add(1, Relaxed);
    }
}

/// Namespaces: how often each was taken in.
impl Target<NamespaceLabels> for Arc<Taken> {
    type Key = String;

    fn put(&self, object: NamespaceLabels) -> Option<String> {
        *self.objects.lock().unwrap().entry(object.name.clone()).or_default() += 1;
        Some(object.name)
    }
    fn remove(&self, key: &String) {
        self.forget(key);
    }
    fn key(&self, meta: &ObjectMeta) -> Option<String> {
        meta.name.clone()
    }
    fn keys(&self) -> Vec<String> {
        self.names()
    }
    fn known_version(&self, _: &String) -> Option<u64> {
        None
    }
    fn history_replaced(&self) {}
}

struct Stage {
    server: Arc<Server>,
    taken: Arc<Taken>,
    health: Health,
    metrics: Metrics,
    one_large: Arc<Semaphore>,
}

impl Stage {
    fn new(prepare: impl FnOnce(&mut State)) -> Self {
        let stage = Self::prepared(prepare);
        stage.follow::<TaskWatch>();
        stage
    }

    fn prepared(prepare: impl FnOnce(&mut State)) -> Self {
        let server = Arc::<Server>::default();
        prepare(&mut server.state());
        let (health, metrics) = (Health::default(), Metrics::new());
        Self { server, taken: Arc::default(), health, metrics, one_large: Arc::new(Semaphore::new(1)) }
    }

    fn follow<K: Kind>(&self)
    where
        Arc<Taken>: Target<K>,
    {
        let server = Arc::clone(&self.server);
        let service = service_fn(move |request: Request<Body>| {
            let answer = server.answer(&request);
            async move { Ok::<_, Infallible>(answer) }
        });
        let client = Client::new(service, "default");
        let guard = Guard::new(self.metrics.clone());
        let means = Means { client, metrics: self.metrics.clone(), guard, one_large: Arc::clone(&self.one_large) };
        let ready = self.health.readiness("objects");
        self.health.all_named();
        tokio::spawn(follow::<K, _>(means, None, Arc::clone(&self.taken), ready));
    }

    async fn ready(&self) -> usize {
        eventually(|| self.health.ready().ok()).await;
        self.taken.names().len()
    }

    async fn has(&self, name: &str, version: u64) {
        eventually(|| (self.taken.objects.lock().unwrap().get(name) == Some(&version)).then_some(())).await;
    }
}

#[tokio::test(start_paused = true)]
async fn large_objects_among_small_ones_are_read_by_few_and_one_that_is_too_large_is_named_and_passed_by() {
    let stage = Stage::new(|state| {
        (0..400).for_each(|i| state.put(&format!("a{i:03}"), 10));
        (0..8).for_each(|i| state.put(&format!("b{i:03}"), 600_000));
        state.put("c-monster", OBJECT_CAP);
        (0..30).for_each(|i| state.put(&format!("d{i:03}"), 10));
    });
    assert_eq!(stage.ready().await, 400 + 8 + 30);
    let limits: Vec<_> = stage.server.asked().iter().map(|asked| asked.split(' ').next().unwrap().to_owned()).collect();
    assert!(limits[..4] == ["limit=25", "limit=100", "limit=250", "limit=250"], "{limits:?}");
    assert!(limits.len() < 40, "{limits:?}");
    assert!(stage.metrics.render().contains("taskwatch_unreadable_objects{resource=\"taskwatches\"} 1\n"));
}

/// By the clock of the machine: the paused one would stand still as long as anybody has something to do.
#[tokio::test]
async fn others_have_their_turn_while_a_page_is_taken_in() {
    let stage = Stage::new(|state| (0..20).for_each(|i| state.put(&format!("a{i:02}"), TURN)));
    let mut seen = BTreeSet::new();
    let watch = async {
        while seen.last() != Some(&20) {
            seen.insert(stage.taken.names().len());
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), watch).await.unwrap();
    assert!(seen.len() > 10, "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn what_changes_is_followed_until_it_is_gone() {
    let stage = Stage::new(|state| state.put("a", 0));
    assert_eq!(stage.ready().await, 1);
    let added = {
        let mut server = stage.server.state();
        server.put("b", 300_000);
        server.object("b")
    };
    stage.server.tell("ADDED", added.clone()).await;
    stage.has("b", 2).await;
    let mut gone = added;
    gone["metadata"]["resourceVersion"] = json!("3");
    stage.server.tell("DELETED", gone).await;
    eventually(|| (stage.taken.names() == ["a"]).then_some(())).await;
    stage.server.tell("BOOKMARK", json!({"metadata": {"resourceVersion": "9"}})).await;
    {
        let mut server = stage.server.state();
        server.objects.remove("b");
        server.version = 9;
        server.watch = None;
    }
    stage.server.asked();
    eventually(|| (stage.server.state().asked.len() > 1).then_some(())).await;
    let asked = stage.server.asked();
    assert_eq!(asked[0], "metadata limit=1 fieldSelector=metadata.name%3Db", "the last change");
    assert!(asked[1].starts_with("watch=true resourceVersion=9 "), "{asked:?}");
    assert_eq!(stage.taken.replaced.load(Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn of_namespaces_each_event_is_read_and_nothing_is_listed_again() {
    let stage = Stage::prepared(|state| state.put("a", 0));
    stage.follow::<NamespaceLabels>();
    assert_eq!(stage.ready().await, 1);
    for times in 2..6 {
        let changed = {
            let mut server = stage.server.state();
            server.put("a", 0);
            server.outline("a")
        };
        stage.server.tell("MODIFIED", changed).await;
        stage.has("a", times).await;
    }
    let asked = stage.server.asked();
    assert_eq!(asked.len(), 2, "a list and a watch: {asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_watch_is_measured_under_the_name_of_its_collection() {
    let stage = Stage::prepared(|state| state.put("a", 0));
    stage.follow::<NamespaceLabels>();
    stage.ready().await;
    let shown = stage.metrics.render();
    assert!(shown.contains("taskwatch_watch_last_event_seconds{resource=\"namespaces\"}"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn an_expired_version_is_listed_again_and_what_went_meanwhile_is_forgotten() {
    let stage = Stage::new(|state| ["a", "b"].iter().for_each(|name| state.put(name, 0)));
    assert_eq!(stage.ready().await, 2);
    eventually(|| stage.server.state().watch.clone()).await;
    {
        let mut server = stage.server.state();
        server.objects.remove("a");
        server.put("c", 0);
    }
    let expired = json!({"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"});
    stage.server.tell("ERROR", expired).await;
    eventually(|| (stage.taken.names() == ["b", "c"]).then_some(())).await;
    assert_eq!(stage.taken.replaced.load(Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_history_that_went_back_is_listed_again_and_told() {
    let stage = Stage::new(|state| ["a", "b"].iter().for_each(|name| state.put(name, 0)));
    assert_eq!(stage.ready().await, 2);
    stage.server.state().put("a", 0);
    let changed = stage.server.state().object("a");
    stage.server.tell("MODIFIED", changed).await;
    stage.has("a", 3).await;
    // The backup has b only; then c was made, and the versions have passed those of before.
    {
        let mut server = stage.server.state();
        server.objects.remove("b");
        server.objects.insert("a".to_owned(), (1, 0));
        server.version = 40;
        server.put("c", 0);
        server.watch = None;
    }
    stage.has("c", 41).await;
    stage.has("a", 1).await;
    assert_eq!(stage.taken.names(), ["a", "c"]);
    assert_eq!(stage.taken.replaced.load(Relaxed), 1);
    assert!(stage.metrics.render().contains("taskwatch_history_replaced_total{resource=\"taskwatches\"} 1\n"));
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_older_than_it_was_is_of_another_history() {
    let stage = Stage::new(|state| state.put("a", 0));
    assert_eq!(stage.ready().await, 1);
    eventually(|| stage.server.state().watch.clone()).await;
    // Written by the operator itself, before the backup was restored with its versions raised.
    stage.taken.objects.lock().unwrap().insert("a".to_owned(), 30);
    stage.server.state().version = 100;
    stage.server.tell("ERROR", json!({"code": 410})).await;
    stage.has("a", 1).await;
    assert_eq!(stage.taken.replaced.load(Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_tells_of_another_history_is_left() {
    let stage = Stage::new(|state| ["a", "b"].iter().for_each(|name| state.put(name, 0)));
    assert_eq!(stage.ready().await, 2);
    stage.server.state().put("a", 0);
    let changed = stage.server.state().object("a");
    stage.server.tell("MODIFIED", changed).await;
    stage.has("a", 3).await;
    // The watch goes on through the restore, and says that versions are lower again.
    let older = {
        let mut server = stage.server.state();
        server.objects.remove("b");
        server.version = 1;
        server.put("a", 0);
        server.asked.clear();
        server.object("a")
    };
    let told = Instant::now();
    stage.server.tell("MODIFIED", older).await;
    eventually(|| (stage.taken.names() == ["a"]).then_some(())).await;
    stage.has("a", 2).await;
    assert!(told.elapsed().as_secs() < 10, "it is not waited for to end: {:?}", told.elapsed());
    assert_eq!(stage.taken.replaced.load(Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_page_that_stalls_is_given_up_and_asked_for_again() {
    let stage = Stage::new(|state| {
        state.put("a", 0);
        state.stalls = true;
        state.refusals.push((500, json!("not a status")));
    });
    eventually(|| (stage.server.state().asked.len() == 2).then_some(())).await;
    let stalled = Instant::now();
    stage.server.state().stalls = false;
    assert!(stage.health.ready().is_err());
    assert_eq!(stage.ready().await, 1);
    assert!((60..65).contains(&stalled.elapsed().as_secs()), "{:?}", stalled.elapsed());
}

#[tokio::test(start_paused = true)]
async fn one_page_is_read_at_a_time_by_all_who_follow() {
    let stage = Stage::new(|state| (0..40).for_each(|i| state.put(&format!("a{i:03}"), 100_000)));
    stage.follow::<TaskWatch>();
    stage.follow::<TaskWatch>();
    assert_eq!(stage.ready().await, 40);
    assert_eq!(stage.server.most_at_once.load(Relaxed), 1);
}
