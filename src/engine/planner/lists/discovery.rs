//! All tasks of a scope, for those who discover them: what its lists have shown, and what each discoverer has been told of it.
//!
//! Only a whole list says that a task is gone. Whatever comes of other lists is added, and told with the next whole one.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::recent::{Recent, Sighting};
use crate::domain::{
    discovery::catalogue::{Candidate, Catalogue},
    failure::{Failure, FailureClass},
    task::Task,
};
use crate::engine::{Discovered, Discovery, Found, WatchKey};
use crate::tenancy::{Tenant, pool::Lease};

/// What is kept of an entry beside its [`Candidate`], in bytes.
pub const ENTRY: usize = 128;
/// Room is taken in steps of so many bytes.
const STEP: usize = 64 << 10;

/// All tasks of a scope, and those who discover them.
#[derive(Debug)]
pub struct Survey {
    discoverers: BTreeMap<WatchKey, Discoverer>,
    /// Whether the upstream lists its tasks.
    lists: bool,
    /// The list that is being read was begun for the discoverers, too: nothing that it shows has been passed over.
    reads: bool,
    catalogue: Arc<Catalogue>,
    /// Rises with each change of the catalogue.
    version: u64,
    /// What is known of each entry of the catalogue: the same tasks.
    entries: HashMap<Arc<str>, Entry>,
    /// Whose entry last had this print; what is not so any more may still stand here.
    prints: HashMap<u64, Arc<str>>,
    /// The tasks of the catalogue that are part of another one, by that.
    parts: HashMap<Box<str>, HashSet<Arc<str>>>,
    /// Entries of the list that is being read which are being decoded.
    awaited: HashMap<Box<str>, Awaited>,
    recent: Recent,
    /// For the catalogue, and what is known beside it.
    lease: Lease,
    /// The list that is being read has shown more than there is room for: so many tasks.
    unkept: usize,
    is_full: bool,
    /// When the last whole list was at its end; none where that does not count any more.
    whole: Option<Instant>,
    trouble: Option<Trouble>,
}

/// Who wants to know of all tasks.
#[derive(Debug)]
struct Discoverer {
    tenant: Tenant,
    period: Duration,
    ticket: u64,
    told: Told,
}

/// What a discoverer was told last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    /// The catalogue, of this version.
    Listed(u64),
    Trouble(FailureClass),
    Unsupported,
}

#[derive(Debug)]
struct Entry {
    /// Of what was read of it.
    print: u64,
    /// The last list that showed it, by its first job.
    seen: u64,
}

#[derive(Debug)]
struct Awaited {
    print: u64,
    /// Whether somebody who watches a task needs it, too.
    is_watched: bool,
}

/// Why the tasks cannot be listed.
#[derive(Debug)]
struct Trouble {
    failure: Arc<Failure>,
    since: Instant,
    at: Instant,
}

/// A list, as it is being read.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// Its first job.
    pub poll: u64,
    /// The next job that will be asked.
    pub next_job: u64,
    pub now: Instant,
}

/// A task that a list has shown before somebody came to watch it.
#[derive(Debug)]
pub struct Known {
    /// With its parts.
    pub task: Arc<Task>,
    /// When it was shown.
    pub at: Instant,
    /// What was asked since has this number or a larger one.
    pub next_job: u64,
    /// The last list that showed it so, by its first job.
    pub seen: u64,
    /// The print of its entry.
    pub print: u64,
}

impl Survey {
    /// Of a scope that nobody discovers yet; what is kept of it is held by `lease`.
    pub fn new(lists: bool, lease: Lease) -> Self {
        Self {
            discoverers: BTreeMap::new(),
            lists,
            reads: false,
            catalogue: Arc::default(),
            version: 0,
            entries: HashMap::new(),
            prints: HashMap::new(),
            parts: HashMap::new(),
            awaited: HashMap::new(),
            recent: Recent::default(),
            lease,
            unkept: 0,
            is_full: false,
            whole: None,
            trouble: None,
        }
    }

    /// Adds or changes a discoverer. Returns on whose account the one of this key was, and whether this one has yet to be told something.
    pub fn discover(&mut self, key: WatchKey, wanted: &Discovery) -> (Option<Tenant>, bool) {
        let Discovery { tenant, period, ticket, .. } = wanted;
        let (tenant, period, ticket) = (tenant.clone(), *period, *ticket);
        let old = self.discoverers.remove(&key);
        let told = old.as_ref().filter(|old| old.ticket == ticket).map_or(Told::Nothing, |old| old.told);
        self.discoverers.insert(key, Discoverer { tenant, period, ticket, told });
        (old.map(|old| old.tenant), told == Told::Nothing)
    }

    /// Removes a discoverer. Returns on whose account it was.
    pub fn forget(&mut self, key: &WatchKey) -> Option<Tenant> {
        self.discoverers.remove(key).map(|discoverer| discoverer.tenant)
    }

    /// Whether nobody discovers.
    pub fn is_forgotten(&self) -> bool {
        self.discoverers.is_empty()
    }

    /// Whether the upstream lists its tasks.
    pub fn lists(&self) -> bool {
        self.lists
    }

    /// Whether it does from now on. Returns whether that is news.
    pub fn set_lists(&mut self, lists: bool) -> bool {
        let is_news = std::mem::replace(&mut self.lists, lists) != lists;
        if is_news {
            (self.reads, self.trouble) = (false, None);
            self.discoverers.values_mut().for_each(|discoverer| discoverer.told = Told::Nothing);
            self.renew();
        }
        is_news
    }

    /// What is known came from elsewhere, or with another credential: it is told to no newcomer.
    pub fn renew(&mut self) {
        self.whole = None;
        self.recent = Recent::default();
    }

    /// The shortest period that a discoverer wants, within the connection's bounds.
    pub fn shortest(&self, floor: Duration, ceiling: Duration) -> Option<Duration> {
        self.discoverers.values().map(|discoverer| discoverer.period).min().map(|period| within(period, floor, ceiling))
    }

    /// Whether somebody has yet to be told something.
    pub fn is_owing(&self) -> bool {
        self.lists && self.discoverers.values().any(|discoverer| discoverer.told == Told::Nothing)
    }

    /// Who has yet to be told something is told what is known, where that is not older than `period`, or why nothing is. Returns whether
    /// there was anything to tell.
    pub fn tell_newcomers(&mut self, period: Duration, now: Instant, out: &mut Vec<Discovered<Instant>>) -> bool {
        let is_new = |told: Told| told == Told::Nothing;
        if !self.lists {
            self.tell(is_new, Told::Unsupported, || Found::Unsupported, out);
        } else if let Some(Trouble { failure, since, at }) = &self.trouble {
            let found = Found::Trouble { failure: Arc::clone(failure), since: *since, at: *at };
            self.tell(is_new, Told::Trouble(failure.class), || found.clone(), out);
            return false;
        } else if let Some(at) = self.whole.filter(|at| now.saturating_duration_since(*at) < period) {
            self.tell_listed(is_new, at, out);
        } else {
            return false;
        }
        true
    }

    /// A list is about to be asked for.
    pub fn begins(&mut self) {
        self.reads = self.lists;
    }

    /// The task whose entry last had this print, where that is what is known of it.
    pub fn known(&self, print: u64) -> Option<&Arc<Candidate>> {
        let id = self.prints.get(&print)?;
        self.entries.get(id).filter(|entry| entry.print == print).and_then(|_| self.catalogue.get(id))
    }

    /// The list shows this task as it is known.
    pub fn is_shown(&mut self, id: &str, poll: u64) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.seen = poll;
        }
    }

    /// Whether the entry of this task, of that print, has to be decoded. An upstream that shows a task twice is believed the first time.
    pub fn wants(&mut self, id: &str, print: u64, poll: u64) -> bool {
        match self.entries.get_mut(id) {
            // Should it be impossible to read, it has not gone all the same.
            Some(entry) => std::mem::replace(&mut entry.seen, poll) != poll && entry.print != print,
            None if self.awaited.contains_key(id) => false,
            None if self.is_full => {
                self.unkept += 1;
                false
            }
            None => true,
        }
    }

    /// The entry of this task is being decoded; `is_watched`: not only for the catalogue.
    pub fn awaits(&mut self, id: &str, print: u64, is_watched: bool) {
        self.awaited.insert(id.into(), Awaited { print, is_watched });
    }

    /// Takes in what was decoded. Returns what somebody who watches a task needs of it.
    pub fn take_in(&mut self, tasks: Vec<Arc<Task>>, reading: &Reading) -> Vec<Arc<Task>> {
        let mut crowded_out: HashSet<Arc<str>> = HashSet::new();
        let mut awaited = std::mem::take(&mut self.awaited);
        let mut left = Vec::new();
        for task in tasks {
            let awaited = awaited.remove(task.id.as_str());
            match &awaited {
                Some(awaited) => crowded_out.extend(self.take(&task, awaited.print, reading)),
                None => self.take_again(&task, reading),
            }
            if awaited.is_none_or(|awaited| awaited.is_watched) {
                left.push(task);
            }
        }
        crowded_out.retain(|id| !self.entries.contains_key(id));
        if !crowded_out.is_empty() {
            self.drop_from_catalogue(|id| crowded_out.contains(id));
        }
        left
    }

    /// Takes in one task that was decoded for those who watch it only: it is as it is known, or the list has shown it before.
    fn take_again(&mut self, task: &Arc<Task>, reading: &Reading) {
        let candidate = Candidate::of(task);
        if let Some(known) = self.catalogue.get(&candidate.id).filter(|known| ***known == candidate) {
            let id = Arc::clone(&known.id);
            self.saw(&id, task, reading);
        }
    }

    /// Takes in one task. Returns its identifier where what was known of it has to go for want of room.
    fn take(&mut self, task: &Arc<Task>, print: u64, reading: &Reading) -> Option<Arc<str>> {
        let candidate = Candidate::of(task);
        let old = self.catalogue.get(&candidate.id).map(Arc::clone);
        let id = old.as_ref().map_or_else(|| Arc::clone(&candidate.id), |old| Arc::clone(&old.id));
        let is_as_it_was = old.as_deref() == Some(&candidate);
        if !is_as_it_was {
            let growth = self.catalogue.growth(&candidate) + if old.is_none() { ENTRY } else { 0 };
            if growth > 0 && !self.make_room(growth) {
                self.is_full = true;
                self.unkept += 1;
                return old.and(self.forget_entry(&id));
            }
            if let Some(parent) = old.as_ref().and_then(|old| old.parent_id.as_deref()) {
                self.is_no_part_of(parent, &id);
            }
            if let Some(parent) = &candidate.parent_id {
                self.parts.entry(parent.clone()).or_default().insert(Arc::clone(&id));
            }
            Arc::make_mut(&mut self.catalogue).put(candidate);
            self.version += 1;
        }
        self.entries.insert(Arc::clone(&id), Entry { print, seen: reading.poll });
        self.prints.insert(print, Arc::clone(&id));
        self.saw(&id, task, reading);
        None
    }

    /// Keeps a task as the list has shown it, where there is room.
    fn saw(&mut self, id: &Arc<str>, task: &Arc<Task>, reading: &Reading) {
        if self.has_room(Recent::size(task)) {
            let Reading { next_job, now, .. } = *reading;
            self.recent.keep(id, Sighting { task: Arc::clone(task), at: now, next_job });
        } else {
            self.recent.forget(id);
        }
    }

    /// A task that a list has shown of late, with all its parts.
    pub fn shown(&self, id: &str, now: Instant) -> Option<Known> {
        let Sighting { task, at, next_job } = self.recent.get(id, now)?;
        let Entry { print, seen } = self.entries.get(id)?;
        let mut task = Arc::clone(task);
        if let Some(parts) = self.parts.get(id) {
            let parts: Option<Vec<_>> = parts.iter().map(|part| self.recent.get(part, now)).collect();
            let parts = parts?.into_iter().map(|part| Task::clone(&part.task)).collect();
            Arc::make_mut(&mut task).adopt(parts);
        }
        Some(Known { task, at: *at, next_job: *next_job, seen: *seen, print: *print })
    }

    /// The list whose first job was `poll` is at its end, and has shown all that there is, unless it is not known to have been read from its
    /// beginning: what it did not show is gone.
    pub fn is_whole(&mut self, poll: u64, now: Instant, out: &mut Vec<Discovered<Instant>>) {
        if !self.reads {
            return;
        }
        if self.entries.values().any(|entry| entry.seen != poll) {
            let gone = |entry: &Entry| entry.seen != poll;
            let gone: HashSet<_> = self.entries.iter().filter(|(_, e)| gone(e)).map(|(id, _)| Arc::clone(id)).collect();
            for id in &gone {
                self.forget_entry(id);
            }
            self.drop_from_catalogue(|id| gone.contains(id));
        }
        if self.catalogue.unkept() != self.unkept {
            Arc::make_mut(&mut self.catalogue).set_unkept(self.unkept);
            self.version += 1;
        }
        (self.whole, self.trouble) = (Some(now), None);
        let version = self.version;
        self.tell_listed(|told| told != Told::Listed(version), now, out);
    }

    /// The list that is being read is over, in whichever way.
    pub fn ends(&mut self, now: Instant) {
        (self.reads, self.unkept, self.is_full) = (false, 0, false);
        self.awaited = HashMap::new();
        self.recent.expire(now);
        if self.prints.len() > 2 * self.entries.len() {
            let entries = &self.entries;
            self.prints.retain(|print, id| entries.get(id).is_some_and(|entry| entry.print == *print));
            self.prints.shrink_to_fit();
        }
        self.lease.shrink_to(self.used());
    }

    /// The tasks could not be listed, or not to the end.
    pub fn troubled(&mut self, failure: &Arc<Failure>, now: Instant, out: &mut Vec<Discovered<Instant>>) {
        if !self.lists {
            return;
        }
        let since = self.trouble.as_ref().map_or(now, |trouble| trouble.since);
        self.trouble = Some(Trouble { failure: Arc::clone(failure), since, at: now });
        let told = Told::Trouble(failure.class);
        let found = || Found::Trouble { failure: Arc::clone(failure), since, at: now };
        self.tell(|before| before != told, told, found, out);
    }

    /// Whether something is known to be wrong.
    pub fn is_troubled(&self) -> bool {
        self.trouble.is_some()
    }

    fn tell_listed(&mut self, whom: impl Fn(Told) -> bool, at: Instant, out: &mut Vec<Discovered<Instant>>) {
        let catalogue = Arc::clone(&self.catalogue);
        let found = || Found::Listed { catalogue: Arc::clone(&catalogue), at };
        self.tell(whom, Told::Listed(self.version), found, out);
    }

    fn tell(
        &mut self,
        whom: impl Fn(Told) -> bool,
        what: Told,
        found: impl Fn() -> Found<Instant>,
        out: &mut Vec<Discovered<Instant>>,
    ) {
        for (key, discoverer) in &mut self.discoverers {
            if whom(discoverer.told) {
                discoverer.told = what;
                out.push(Discovered { key: key.clone(), ticket: discoverer.ticket, found: found() });
            }
        }
    }

    /// Forgets what is known of a task, but for its place in the catalogue.
    fn forget_entry(&mut self, id: &Arc<str>) -> Option<Arc<str>> {
        self.recent.forget(id);
        if let Some(parent) = self.catalogue.get(id).and_then(|task| task.parent_id.clone()) {
            self.is_no_part_of(&parent, id);
        }
        self.entries.remove(id).map(|_| Arc::clone(id))
    }

    fn is_no_part_of(&mut self, parent: &str, id: &str) {
        if let Some(parts) = self.parts.get_mut(parent) {
            parts.remove(id);
            if parts.is_empty() {
                self.parts.remove(parent);
            }
        }
    }

    fn drop_from_catalogue(&mut self, goes: impl Fn(&str) -> bool) {
        Arc::make_mut(&mut self.catalogue).retain(|id| !goes(id));
        self.version += 1;
    }

    /// Takes room for so many bytes more, if need be that of what was shown of late. Returns whether there is.
    fn make_room(&mut self, more: usize) -> bool {
        if self.has_room(more) {
            return true;
        }
        self.recent = Recent::default();
        self.has_room(more)
    }

    /// Takes room for so many bytes more. Returns whether there is.
    fn has_room(&mut self, more: usize) -> bool {
        let wanted = (self.used() + more).saturating_sub(self.lease.held());
        wanted == 0 || self.lease.try_grow(wanted.max(STEP)) || self.lease.try_grow(wanted)
    }

    fn used(&self) -> usize {
        self.catalogue.bytes() + self.entries.len() * ENTRY + self.recent.bytes()
    }
}

/// A period within the connection's bounds.
pub fn within(period: Duration, floor: Duration, ceiling: Duration) -> Duration {
    period.clamp(floor, ceiling.max(floor))
}

#[cfg(test)]
impl Survey {
    /// Those who discover, and on whose account.
    pub fn tenants(&self) -> impl Iterator<Item = (&WatchKey, &Tenant)> {
        self.discoverers.iter().map(|(key, discoverer)| (key, &discoverer.tenant))
    }

    /// Panics where what it knows of one task says different things.
    pub fn assert_in_step(&self) {
        assert!(!self.discoverers.is_empty(), "a survey for nobody");
        assert_eq!(self.entries.len(), self.catalogue.len());
        assert!(self.entries.keys().all(|id| self.catalogue.get(id).is_some()));
        let parts: usize = self.parts.values().map(HashSet::len).sum();
        let has_parent = |task: &&Arc<Candidate>| task.parent_id.is_some();
        assert_eq!(parts, self.catalogue.iter().filter(has_parent).count());
        let is_listed = |(parent, part): (&str, &Arc<str>)| {
            self.catalogue.get(part).is_some_and(|task| task.parent_id.as_deref() == Some(parent))
        };
        assert!(self.parts.iter().flat_map(|(of, parts)| parts.iter().map(move |part| (&**of, part))).all(is_listed));
        assert!(self.recent.ids().all(|id| self.entries.contains_key(id)));
        assert!(self.used() <= self.lease.held(), "{} of {}", self.used(), self.lease.held());
    }
}
