//! The objects: made, changed, deleted, and made again under the same names.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{
    book::Book,
    cluster::Cluster,
    model::{Connection, FLEETING, Fate, HOME, LONG_GRACE, SETS, World, now_ms},
    rng::Rng,
    upstream::Upstream,
};

/// Makes and unmakes objects.
pub(super) struct Churn {
    cluster: Cluster,
    world: Arc<Mutex<World>>,
    upstream: Arc<Upstream>,
    book: Arc<Book>,
    /// Names are taken from so many.
    names: u64,
    tasks: Mutex<Vec<(usize, String)>>,
}

const FATES: &[(u64, Fate)] = &[(86, Fate::Usual), (5, Fate::Flickers), (5, Fate::Vanishes), (4, Fate::Absent)];

impl Churn {
    pub(super) fn new(
        cluster: Cluster,
        world: Arc<Mutex<World>>,
        upstream: Arc<Upstream>,
        book: Arc<Book>,
        names: u64,
    ) -> Self {
        Self { cluster, world, upstream, book, names, tasks: Mutex::default() }
    }

    /// Makes all objects for the first time.
    pub(super) async fn begin(&self, rng: &mut Rng) {
        for name in 0..self.names {
            self.make(name, rng).await;
        }
    }

    /// Changes something every moment, until then.
    pub(super) async fn churn(&self, mut rng: Rng, until: Instant) {
        while Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(rng.between(10, 150))).await;
            let name = rng.below(self.names);
            match rng.below(10) {
                0..=2 => {
                    // While it is being polled, its successor comes.
                    self.delete(name).await;
                    self.make(name, &mut rng).await;
                }
                3 => self.delete(name).await,
                4..=5 => self.make(name, &mut rng).await,
                6 => self.suspend(name, &mut rng).await,
                7 => {
                    let patch =
                        json!({"metadata": {"annotations": {"taskwatch.dev/requestedAt": rng.next().to_string()}}});
                    self.change(name, &patch).await;
                }
                8 => self.change(name, &json!({"spec": {"poll": {"periodSeconds": rng.between(1, 4)}}})).await,
                _ => {
                    for name in name..(name + 10).min(self.names) {
                        self.delete(name).await;
                        self.make(name, &mut rng).await;
                    }
                }
            }
        }
    }

    /// Makes the objects of a namespace again, where they are missing.
    pub(super) async fn refill(&self, namespace: &str, rng: &mut Rng) {
        for name in 0..self.names {
            if namespace_of(name) == namespace {
                self.make(name, rng).await;
            }
        }
    }

    /// Sees to it that nothing is left suspended.
    pub(super) async fn settle(&self) -> anyhow::Result<()> {
        for object in self.cluster.list().await? {
            if object["spec"]["suspend"] == true {
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
                self.cluster.change_watch(namespace, name, &json!({"spec": {"suspend": false}})).await?;
            }
        }
        Ok(())
    }

    async fn suspend(&self, name: u64, rng: &mut Rng) {
        self.change(name, &json!({"spec": {"suspend": true}})).await;
        tokio::time::sleep(Duration::from_millis(rng.between(0, 1500))).await;
        self.change(name, &json!({"spec": {"suspend": false}})).await;
    }

    async fn change(&self, name: u64, patch: &Value) {
        self.done("change", &self.cluster.change_watch(namespace_of(name), &format!("w-{name:04}"), patch).await);
    }

    async fn delete(&self, name: u64) {
        self.done("delete", &self.cluster.delete_watch(namespace_of(name), &format!("w-{name:04}")).await);
    }

    async fn make(&self, name: u64, rng: &mut Rng) {
        let namespace = namespace_of(name);
        let (index, connection, id, fate) = self.task(namespace, rng);
        if fate != Fate::Absent {
            // Where the simulator is away, it is told when it comes back.
            let _ = self.upstream.put_task(index, &id).await;
        }
        let object = object(namespace, &format!("w-{name:04}"), &connection, &id, fate, rng);
        self.done("make", &self.cluster.make_watch(object).await);
    }

    /// An object for a task that is watched already: upstream, it costs nothing.
    pub(super) fn object_of_known_task(&self, name: &str, rng: &mut Rng) -> Option<Value> {
        let world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let here = |index: usize| world.connections[index].shared || world.connections[index].namespace == HOME;
        let known: Vec<_> = tasks.iter().filter(|(index, _)| here(*index)).collect();
        if known.is_empty() {
            return None;
        }
        let (index, id) = *rng.pick(&known);
        Some(object(HOME, name, &world.connections[*index], id, Fate::Usual, rng))
    }

    /// A task to watch: a new one, or one that is watched already.
    fn task(&self, namespace: &str, rng: &mut Rng) -> (usize, Connection, String, Fate) {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        let usable: Vec<_> = (0..world.connections.len())
            .filter(|&index| world.connections[index].shared || world.connections[index].namespace == namespace)
            .collect();
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let known: Vec<_> = tasks.iter().filter(|(index, _)| usable.contains(index)).cloned().collect();
        if rng.chance(15) && !known.is_empty() {
            let (index, id) = rng.pick(&known).clone();
            return (index, world.connections[index].clone(), id, Fate::Usual);
        }
        let index = *rng.pick(&usable);
        let fate = *rng.weighted(FATES);
        let id = world.make_task(index, fate, rng, now_ms());
        if fate == Fate::Usual {
            tasks.push((index, id.clone()));
        }
        (index, world.connections[index].clone(), id, fate)
    }

    fn done(&self, what: &str, result: &anyhow::Result<()>) {
        match result {
            Ok(()) => self.book.count(what),
            Err(_) => self.book.count(&format!("{what}-failed")),
        }
    }
}

/// Every eighth object is in the namespace that goes and comes, and another one beside the sets, whose lists serve it, too.
fn namespace_of(name: u64) -> &'static str {
    match name % 8 {
        0 => FLEETING,
        1 => SETS,
        _ => HOME,
    }
}

fn object(namespace: &str, name: &str, connection: &Connection, id: &str, fate: Fate, rng: &mut Rng) -> Value {
    let kind = if connection.shared { "ClusterTaskConnection" } else { "TaskConnection" };
    let mut spec = json!({
        "connectionRef": {"kind": kind, "name": connection.name},
        "task": {"id": id},
        "poll": {"periodSeconds": rng.between(1, 4), "maxPeriodSeconds": rng.between(4, 8), "staleAfterSeconds": *rng.pick(&[10, 600])},
        "notFoundGraceSeconds": LONG_GRACE,
    });
    if matches!(fate, Fate::Vanishes | Fate::Absent) {
        spec["notFoundGraceSeconds"] = rng.between(0, 5).into();
        spec["onNotFound"] = (*rng.pick(&["Fail", "Succeed", "Retry"])).into();
    }
    if rng.chance(20) {
        spec["readyWhen"] = "Observed".into();
    }
    if rng.chance(5) {
        spec["activeDeadlineSeconds"] = rng.between(3, 15).into();
    }
    if rng.chance(5) {
        spec["ttlSecondsAfterFinished"] = rng.between(0, 4).into();
    }
    json!({"apiVersion": "taskwatch.dev/v1alpha1", "kind": "TaskWatch",
        "metadata": {"name": name, "namespace": namespace}, "spec": spec})
}
