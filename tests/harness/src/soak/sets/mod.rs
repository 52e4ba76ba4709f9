//! The sets: what is done to them while faults go on, and whether they keep the children that they must.
//!
//! | module | what it does |
//! |---|---|
//! | `model` | which children a set must have, and which of them it may delete: pure |
//! | `children` | what became of each child, by our own watch |

mod children;
mod model;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

pub(super) use self::children::Children;
use self::{
    children::{Death, Life},
    model::{Child, Gone, Listed, Wanted},
};
use super::{
    book::{Book, Mark},
    cluster::Cluster,
    history::condition,
    model::{Fate, LONG_GRACE, SETS, Task, World, now_ms},
    rng::Rng,
    upstream::{Upstream, text},
};

/// Tasks of each connection before the faults begin.
const FIRST_TASKS: usize = 15;
/// No more tasks than this are made: they are never forgotten upstream.
const MOST_TASKS: usize = 300;
/// What becomes of a task.
const FATES: &[(u64, Fate)] = &[(70, Fate::Usual), (15, Fate::Flickers), (15, Fate::Vanishes)];
/// So long after the CRD is back, what went with it may still be told.
const TOLD_MS: i64 = 5000;
/// Somebody changes a set back soon.
const SOON: Duration = Duration::from_secs(3);

/// The sets and everything that is done to them.
pub(super) struct Sets {
    cluster: Cluster,
    world: Arc<Mutex<World>>,
    upstream: Arc<Upstream>,
    book: Arc<Book>,
    children: Arc<Children>,
    /// What each set has asked for, and since when it may have been so.
    asked: Mutex<Vec<(String, i64, Wanted)>>,
}

/// The sets of a run: names, connections, and the rest of their `spec`.
fn sets() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        ("all", "as-sets", json!({"limit": 1000})),
        ("few", "as-sets", json!({"limit": 7, "finishedRetentionSeconds": 5})),
        (
            "active",
            "as-sets",
            json!({"limit": 500, "finishedRetentionSeconds": 10, "match": {"states": ["Pending", "Running", "Paused"]}}),
        ),
        ("red", "cr-sets", json!({"limit": 20, "finishedRetentionSeconds": 0, "match": {"types": ["soakTask-red*"]}})),
        (
            "young",
            "cr-sets",
            json!({"limit": 500, "finishedRetentionSeconds": 5, "match": {"states": ["Running", "Failed"], "newerThanSeconds": 15}}),
        ),
    ]
}

/// What somebody changes of the specification of a set.
fn change(rng: &mut Rng) -> (&'static str, Value) {
    match rng.below(4) {
        0 => ("few", json!({"limit": rng.between(3, 12)})),
        1 => {
            let states: &[&str] = if rng.chance(50) { &["Running"] } else { &["Pending", "Running", "Paused"] };
            ("active", json!({"match": {"states": states}}))
        }
        2 => ("red", json!({"finishedRetentionSeconds": rng.between(0, 10)})),
        _ => {
            let labels = json!({"round": rng.below(1000).to_string()});
            ("all", json!({"template": {"metadata": {"labels": labels}}}))
        }
    }
}

impl Sets {
    pub(super) fn new(cluster: Cluster, world: Arc<Mutex<World>>, upstream: Arc<Upstream>, book: Arc<Book>) -> Self {
        Self { cluster, world, upstream, book, children: Arc::default(), asked: Mutex::default() }
    }

    /// Where our watch tells what becomes of their children.
    pub(super) fn children(&self) -> Arc<Children> {
        Arc::clone(&self.children)
    }

    /// Makes them, and the first tasks.
    pub(super) async fn begin(&self, rng: &mut Rng) -> Result<()> {
        for _ in 0..2 * FIRST_TASKS {
            self.make_task(rng).await;
        }
        for (name, connection, mut spec) in sets() {
            spec["connectionRef"] = json!({"kind": "TaskConnection", "name": connection});
            spec["template"] = json!({"spec": {"notFoundGraceSeconds": LONG_GRACE,
                "poll": {"periodSeconds": rng.between(1, 3), "maxPeriodSeconds": 8}}});
            self.note(name, &spec);
            self.cluster
                .make_set(json!({"apiVersion": "taskwatch.dev/v1alpha1", "kind": "TaskWatchSet",
                    "metadata": {"name": name}, "spec": spec}))
                .await?;
        }
        Ok(())
    }

    /// Tasks come and go, people meddle, and quotas with them, until then.
    pub(super) async fn rage(&self, mut rng: Rng, until: Instant, longest: u64) -> Result<()> {
        let (one, two) = (rng.fork(), rng.fork());
        tokio::join!(self.make_tasks(one, until), self.forbid(two, until, longest), self.meddle(rng, until)).1
    }

    async fn make_tasks(&self, mut rng: Rng, until: Instant) {
        for _ in 0..MOST_TASKS {
            tokio::time::sleep(Duration::from_millis(rng.between(200, 900))).await;
            if Instant::now() >= until {
                return;
            }
            self.make_task(&mut rng).await;
        }
    }

    async fn make_task(&self, rng: &mut Rng) {
        let (index, id) = {
            let mut world = self.world();
            let own: Vec<_> = (0..world.connections.len()).filter(|i| world.connections[*i].has_sets()).collect();
            let (index, fate) = (*rng.pick(&own), *rng.weighted(FATES));
            (index, world.make_task(index, fate, rng, now_ms()))
        };
        // Where the simulator is away, it is told when it comes back.
        let _ = self.upstream.put_task(index, &id).await;
    }

    /// A quota comes, and goes.
    async fn forbid(&self, mut rng: Rng, until: Instant, longest: u64) -> Result<()> {
        loop {
            tokio::time::sleep(Duration::from_millis(rng.between(2000, 15_000))).await;
            if Instant::now() + Duration::from_secs(longest) >= until {
                return Ok(());
            }
            let time = Duration::from_millis(rng.between(500, longest * 1000));
            self.book.act(&format!("WatchesForbidden {time:?}"));
            self.cluster.forbid_watches().await?;
            tokio::time::sleep(time).await;
            self.cluster.allow_watches().await?;
        }
    }

    /// People delete children, and change sets.
    async fn meddle(&self, mut rng: Rng, until: Instant) {
        loop {
            tokio::time::sleep(Duration::from_millis(rng.between(300, 2500))).await;
            if Instant::now() >= until {
                return;
            }
            if rng.chance(70) {
                self.delete_child(&mut rng).await;
                continue;
            }
            if rng.chance(20) {
                let (name, ..) = *rng.pick(&sets());
                self.change(name, &json!({"suspend": true})).await;
                tokio::time::sleep(SOON).await;
                self.change(name, &json!({"suspend": false})).await;
                continue;
            }
            let (name, spec) = change(&mut rng);
            self.change(name, &spec).await;
        }
    }

    async fn delete_child(&self, rng: &mut Rng) {
        let living = self.children.living();
        if living.is_empty() {
            return;
        }
        let life = rng.pick(&living);
        self.children.is_deleted_by_hand(&life.uid);
        let deleted = self.cluster.delete_this(SETS, &life.name, &life.uid).await;
        self.book.count(if deleted.is_ok() { "child-deleted" } else { "child-deleted-failed" });
    }

    /// Changes the specification of a set; whether that has come through is not sure.
    async fn change(&self, name: &str, spec: &Value) {
        let before = self.asked().iter().rev().find(|(set, ..)| set == name).map(|(.., wanted)| wanted.clone());
        self.asked().push((name.to_owned(), now_ms(), before.unwrap_or_default().changed(spec)));
        let changed = self.cluster.change_set(name, &json!({"spec": spec})).await;
        self.book.count(if changed.is_ok() { "set-changed" } else { "set-changed-failed" });
    }

    fn note(&self, name: &str, spec: &Value) {
        self.asked().push((name.to_owned(), now_ms(), Wanted::read(spec)));
    }

    /// Sees to it that none is left suspended.
    pub(super) async fn settle(&self) -> Result<()> {
        let patch = json!({"spec": {"suspend": false}});
        for (name, ..) in sets() {
            crate::eventually(SOON * 20, "the sets are at work", || self.cluster.change_set(name, &patch)).await?;
        }
        Ok(())
    }

    /// Waits until each has the children that it must have, and says so; else what differs.
    pub(super) async fn converge(&self, limit: Duration) -> Result<Vec<String>> {
        let until = Instant::now() + limit;
        loop {
            let different = self.differences().await?;
            if different.is_empty() || Instant::now() >= until {
                return Ok(different);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    async fn differences(&self) -> Result<Vec<String>> {
        let (objects, watches) = (self.cluster.sets().await?, self.cluster.list().await?);
        let truth = self.upstream.truth().await?;
        let now = now_ms();
        let mut different = Vec::new();
        for set in &objects {
            let name = text(&set["metadata"]["name"]);
            let tasks = self.listed(&text(&set["spec"]["connectionRef"]["name"]), truth.values());
            let own = watches.iter().filter_map(|watch| Some((watch, Life::read(watch)?)));
            let own: Vec<_> = own.filter(|(_, life)| life.set == name).collect();
            let children: Vec<_> =
                own.iter().map(|(_, life)| Child { task: life.task.clone(), ended: life.ended }).collect();
            let wanted = Wanted::read(&set["spec"]);
            let mut wrong = wanted.differences(&tasks, &children, now);
            wrong.extend(says(set, wanted.matching(&tasks, now).len()));
            let labels = &set["spec"]["template"]["metadata"]["labels"];
            let old = own.iter().filter(|(watch, life)| {
                life.ended.is_none() && labels.is_object() && watch["metadata"]["labels"]["round"] != labels["round"]
            });
            wrong.extend(old.map(|(_, life)| format!("{} is not as the template says", life.name)));
            if !wrong.is_empty() {
                wrong.push(format!("it says {}", set["status"]));
            }
            different.extend(wrong.into_iter().map(|what| format!("{name}: {what}")));
        }
        if objects.len() != sets().len() {
            different.push(format!("{} sets", objects.len()));
        }
        Ok(different)
    }

    /// The tasks behind a connection, as they are.
    fn listed<'a>(&self, connection: &str, truth: impl Iterator<Item = &'a Value>) -> Vec<Listed> {
        let world = self.world();
        let Some(index) = world.index(connection) else { return Vec::new() };
        let scope = &world.connections[index].scope;
        let here = truth.filter(|task| task["scope"] == **scope && task["exists"] == true);
        let listed = here.map(|task| {
            let id = text(&task["id"]);
            Listed {
                name: world.task(connection, &id).map(Task::name).unwrap_or_default(),
                state: text(&task["state"]),
                created: task["createdMs"].as_i64().unwrap_or_default(),
                ended: task["changedMs"].as_i64().filter(|_| task["finished"] == true),
                id,
            }
        });
        listed.collect()
    }

    /// Judges what was done on the way: each child that was deleted had to be. Says how many there were.
    pub(super) fn judge(&self) -> String {
        let (made, deaths) = self.children.past();
        let by_hand = deaths.iter().filter(|death| death.by_hand).count();
        let away = self.book.marks(&[Mark::CrdAway]);
        let is_away = |death: &Death| away.iter().any(|(from, to)| (*from..to + TOLD_MS).contains(&death.at));
        let mut judged = 0;
        for death in deaths.iter().filter(|death| !death.by_hand && !is_away(death)) {
            judged += 1;
            if !self.may_be(death) {
                let world = self.world();
                let task = world.task(&death.life.connection, &death.life.task);
                self.book.finding("child deleted wrongly", format!("{death:?}; the task: {task:?}"));
            }
        }
        format!("{made} children made, {by_hand} deleted by hand and {judged} by their sets")
    }

    fn may_be(&self, death: &Death) -> bool {
        let Death { life, at, unseen, .. } = death;
        let world = self.world();
        let task = world.task(&life.connection, &life.task);
        let grace = i64::try_from(LONG_GRACE).unwrap_or_default() * 1000;
        let by_script = task.and_then(|task| {
            let end = task.end().map(|(at, _)| at);
            end.or_else(|| Some(task.gone_from()? + grace))
        });
        let ended = life.ended.or(by_script.filter(|_| *unseen));
        let gone = Gone { task, made: life.made, at: *at, ended, ahead: self.book.ahead(*at) };
        let index = world.index(&life.connection);
        let tasks: Vec<_> = world.tasks.values().filter(|task| Some(task.connection) == index).collect();
        // Whether a change has come through, and when, is not known: each that was asked for before may have been in force.
        let asked = self.asked();
        let mut asked = asked.iter().filter(|(set, from, _)| *set == life.set && from <= at);
        asked.any(|(.., wanted)| wanted.may_go(&gone, &tasks))
    }

    fn world(&self) -> std::sync::MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asked(&self) -> std::sync::MutexGuard<'_, Vec<(String, i64, Wanted)>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the status of a set says wrongly. The pace of its writes may keep back for a minute how many are watched, and children are
/// judged by themselves.
fn says(set: &Value, matched: usize) -> Vec<String> {
    let (spec, status) = (&set["spec"], &set["status"]);
    let limit = spec["limit"].as_u64().and_then(|limit| usize::try_from(limit).ok()).unwrap_or_default();
    let ready = condition(status, "Ready").map(|ready| ready["status"].clone()).unwrap_or_default();
    let counts = [("matched", matched), ("leftOut", matched.saturating_sub(limit))];
    let wrong = counts.into_iter().filter(|(field, count)| status[*field] != json!(count));
    let wrong = wrong.map(|(field, count)| format!("{field} should be {count}"));
    wrong.chain((ready != "True").then(|| "it should be ready".to_owned())).collect()
}
