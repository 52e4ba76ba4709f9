//! An upstream whose list is a table, read as the actor reads it: what is known is not decoded, and slices come before the rest of a page.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::super::rig::{SECOND, account, key, set_key, settings};
use crate::domain::{
    cadence,
    discovery::catalogue::Catalogue,
    failure::{Failure, FailureClass},
    task::{Task, TaskRef, TaskState},
};
use crate::engine::{
    Delivery, Discovered, Discovery, Found, Report, Subscription,
    coalesce::ModeChoice,
    planner::{JobKind, Outcome, Planner, Settings},
};
use crate::providers::{Cursor, Page};
use crate::tenancy::{Tenant, pool::Account};

/// What may be wrong with a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No page comes.
    Fails(FailureClass),
    /// The first page comes, and no other.
    LaterFails(FailureClass),
    /// Each page offers the next, the last one the first.
    Endless,
    /// What follows the first page is an empty one, which offers another.
    Empty,
}

/// An entry of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub state: TaskState,
    /// Shown as the percentage.
    pub version: u8,
    pub parent: Option<String>,
}

/// What is known of the tasks.
pub type Table = BTreeMap<String, Item>;

pub struct Stage {
    pub planner: Planner,
    pub settings: Settings,
    pub now: Instant,
    pub start: Instant,
    pub shown: Table,
    pub page_size: usize,
    pub fault: Option<Fault>,
    /// How many reports the controller takes.
    pub room: usize,
    /// What had to be decoded of the lists.
    pub decoded: Vec<String>,
    pub asked: Vec<(Instant, JobKind)>,
    pub told: Vec<Delivery<Instant>>,
    pub found: Vec<Discovered<Instant>>,
    /// What each discoverer was told last.
    pub last: BTreeMap<usize, Found<Instant>>,
    discoverers: BTreeMap<usize, u64>,
    tickets: u64,
    /// What the list that is being read has shown; none where it has not been begun for discoverers.
    reading: Option<Table>,
}

pub fn auto() -> Settings {
    Settings { mode: ModeChoice::Auto, ..settings() }
}

pub fn item(version: u8) -> Item {
    Item { state: TaskState::Running, version, parent: None }
}

pub fn id(number: usize) -> String {
    format!("t{number:05}")
}

pub fn table(catalogue: &Catalogue) -> Table {
    let item = |task: &crate::domain::discovery::catalogue::Candidate| Item {
        state: task.state,
        version: task.percent.unwrap(),
        parent: task.parent_id.as_deref().map(str::to_owned),
    };
    catalogue.iter().map(|task| (task.id.to_string(), item(task))).collect()
}

impl Stage {
    pub fn new(settings: Settings, tasks: usize) -> Self {
        Self::with_room(settings, tasks, account())
    }

    pub fn with_room(settings: Settings, tasks: usize, catalogues: Account) -> Self {
        let now = Instant::now();
        Self {
            planner: Planner::new(settings.clone(), catalogues, now),
            settings,
            now,
            start: now,
            shown: (0..tasks).map(|number| (id(number), item(0))).collect(),
            page_size: 1000,
            fault: None,
            room: 1000,
            decoded: Vec::new(),
            asked: Vec::new(),
            told: Vec::new(),
            found: Vec::new(),
            last: BTreeMap::new(),
            discoverers: BTreeMap::new(),
            tickets: 0,
            reading: None,
        }
    }

    /// With one discoverer, who has been told.
    pub fn discovered(tasks: usize) -> Self {
        let mut stage = Self::new(auto(), tasks);
        stage.discover(0, 10 * SECOND);
        stage.run(SECOND);
        assert_eq!(table(stage.listed(0)).len(), tasks);
        stage
    }

    pub fn watch(&mut self, number: usize, requested: bool) {
        self.tickets += 1;
        let watch = Subscription {
            tenant: Tenant::shared(),
            task: TaskRef { scope: "s".into(), id: id(number) },
            period: 10 * SECOND,
            max_period: 10 * SECOND,
            age: Duration::ZERO,
            known: false,
            requested,
            ticket: self.tickets,
        };
        self.planner.watch(key(number), &watch, self.now);
        self.collect();
    }

    pub fn discover(&mut self, number: usize, period: Duration) {
        let ticket = *self.discoverers.entry(number).or_insert(1);
        self.discover_as(number, period, ticket);
    }

    pub fn discover_as(&mut self, number: usize, period: Duration, ticket: u64) {
        self.discoverers.insert(number, ticket);
        let wanted = Discovery { tenant: Tenant::shared(), scope: "s".into(), period, ticket };
        self.planner.discover(set_key(number), &wanted, self.now);
        self.collect();
    }

    pub fn forget_discoverer(&mut self, number: usize) {
        self.planner.forget(&set_key(number));
        self.is_no_discoverer(number);
    }

    /// The discoverer of this number is none any more.
    pub fn is_no_discoverer(&mut self, number: usize) {
        self.discoverers.remove(&number);
        self.last.remove(&number);
        if self.discoverers.is_empty() {
            self.reading = None;
        }
        self.collect();
    }

    pub fn reconfigure(&mut self, settings: Settings, renewed: bool) {
        if settings.lists != self.settings.lists {
            self.reading = None;
        }
        self.settings = settings.clone();
        if renewed {
            self.planner.abandon_all(self.now);
        }
        self.planner.reconfigure(settings, renewed, self.now);
        self.collect();
    }

    /// Forgets what was before.
    pub fn clear(&mut self) {
        (self.decoded, self.asked) = (Vec::new(), Vec::new());
        (self.told, self.found) = (Vec::new(), Vec::new());
        self.start = self.now;
    }

    /// Forgets what was before, and runs for so long.
    pub fn run(&mut self, span: Duration) {
        self.clear();
        self.go_on(span);
    }

    pub fn go_on(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            while let Some(job) = self.planner.next(self.now) {
                self.asked.push((self.now, job.kind.clone()));
                let outcome = self.answer(job.id, &job.kind);
                let is_whole = matches!(&outcome, Outcome::List(Ok(page)) if page.next.is_none());
                self.planner.done(job.id, outcome, 500, None, self.now);
                let before = self.found.len();
                self.collect();
                let is_listed = |news: &Discovered<Instant>| matches!(news.found, Found::Listed { .. });
                let is_told = self.found.iter().skip(before).any(is_listed);
                assert!(!is_told || is_whole && self.reading.is_some(), "told of a list that is not whole");
                if is_whole {
                    self.is_whole();
                }
            }
            self.planner.assert_in_step();
            let wake = self.planner.wake_at(self.now).unwrap_or(end);
            self.now = wake.max(self.now + SECOND / 1000);
            if self.now >= end {
                self.now = end;
                return;
            }
        }
    }

    /// A list has come to its end: each discoverer knows what it has shown.
    fn is_whole(&mut self) {
        let Some(shown) = self.reading.take().filter(|_| self.settings.lists && self.room > 100) else { return };
        for number in self.discoverers.keys() {
            assert_eq!(table(self.listed(*number)), shown, "{number}");
        }
    }

    /// What a discoverer was told last, which is a catalogue.
    pub fn listed(&self, number: usize) -> &Catalogue {
        match self.last.get(&number) {
            Some(Found::Listed { catalogue, .. }) => catalogue,
            other => panic!("{number}: {other:?}"),
        }
    }

    fn collect(&mut self) {
        self.told.extend(self.planner.take_deliveries());
        for news in self.planner.take_discovered() {
            let number = news.key.0[1..].parse().unwrap();
            assert_eq!(self.discoverers.get(&number), Some(&news.ticket), "{news:?}");
            self.last.insert(number, news.found.clone());
            self.found.push(news);
        }
    }

    fn answer(&mut self, job: u64, kind: &JobKind) -> Outcome {
        match kind {
            JobKind::List(scope, cursor) => Outcome::List(self.page(job, scope, cursor.as_ref())),
            JobKind::Get(task) => Outcome::Task(match self.shown.get(&task.id) {
                Some(item) => Ok(show(&task.id, item)),
                None => Err(Failure::new(FailureClass::NotFound, "no such task")),
            }),
            other => unreachable!("{other:?}"),
        }
    }

    fn page(&mut self, job: u64, scope: &str, cursor: Option<&Cursor>) -> Result<Page, Failure> {
        let from: usize = cursor.map_or(0, |cursor| cursor.0.parse().unwrap());
        if cursor.is_none() {
            self.reading = (!self.discoverers.is_empty() && self.settings.lists).then(Table::new);
        }
        match self.fault {
            Some(Fault::Fails(class)) => return Err(Failure::new(class, "the list fails")),
            Some(Fault::LaterFails(class)) if from > 0 => return Err(Failure::new(class, "no further page")),
            Some(Fault::Empty) if from > 0 => {
                let next = Some(Cursor((from + 1000).to_string()));
                return Ok(Page { tasks: Vec::new(), total: 0, next });
            }
            _ => {}
        }
        let page: Vec<_> =
            self.shown.iter().skip(from).take(self.page_size).map(|(id, item)| (id.clone(), item.clone())).collect();
        let (first, second) = page.split_at(page.len() / 2);
        let slice = Page { tasks: self.read(job, scope, first), total: first.len(), next: None };
        self.planner.slice_came(job, scope, slice, self.now);
        let rest = self.read(job, scope, second);
        let next = from + self.page_size;
        let next = match self.fault {
            _ if next < self.shown.len() => Some(next),
            Some(Fault::Endless) => Some(0),
            _ => None,
        };
        Ok(Page { tasks: rest, total: page.len(), next: next.map(|next| Cursor(next.to_string())) })
    }

    /// Decodes what has to be of a part of a page.
    fn read(&mut self, job: u64, scope: &str, entries: &[(String, Item)]) -> Vec<Arc<Task>> {
        let mut tasks = Vec::new();
        let mut reader = self.planner.list_reader(job, scope, self.room);
        for (id, item) in entries {
            if let Some(reading) = &mut self.reading {
                reading.entry(id.clone()).or_insert(item.clone());
            }
            // As that of an entry's bytes, which hold its identifier.
            let print = cadence::seed(&format!("{id} {item:?}"));
            if !reader.knows(print) && reader.wants(id, item.parent.as_deref(), print) {
                self.decoded.push(id.clone());
                tasks.push(Arc::new(show(id, item)));
            }
        }
        tasks
    }

    pub fn lists(&self) -> usize {
        self.asked.iter().filter(|(_, kind)| matches!(kind, JobKind::List(_, None))).count()
    }

    pub fn gets(&self) -> usize {
        self.asked.iter().filter(|(_, kind)| matches!(kind, JobKind::Get(_))).count()
    }

    /// The versions that the watch of a task was shown.
    pub fn versions(&self, number: usize) -> Vec<u8> {
        let version = |delivery: &Delivery<Instant>| match &delivery.report {
            Report::Seen { task, .. } if delivery.key == key(number) => task.percent,
            _ => None,
        };
        self.told.iter().filter_map(version).collect()
    }

    /// The classes of the troubles that discoverers were told.
    pub fn troubles(&self) -> Vec<FailureClass> {
        let class = |news: &Discovered<Instant>| match &news.found {
            Found::Trouble { failure, since, at } => {
                assert!(since <= at);
                Some(failure.class)
            }
            _ => None,
        };
        self.found.iter().filter_map(class).collect()
    }
}

fn show(id: &str, item: &Item) -> Task {
    let mut task = Task::new(id, item.state, "word");
    (task.percent, task.parent_id) = (Some(item.version), item.parent.clone());
    task
}
