//! The tasks of one scope: their timelines, and the answers rendered from them once for each step.
//!
//! A list of 10,000 tasks is asked for every few seconds by what is measured, on the same two cores. So an answer is rendered when it is
//! first needed and kept until the task's next step; a heap names the tasks that are due.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use crate::clock::seconds_to_ms;
use crate::scenario::{Common, Step};

/// No further step.
const NEVER: i64 = i64::MAX;
/// Lists kept ready, per scope.
const KEPT_LISTS: usize = 16;
/// Projections (`include`) kept ready, per task.
const KEPT_PROJECTIONS: usize = 2;

/// A row of steps, shared by all tasks that move alike.
#[derive(Debug)]
pub(crate) struct Timeline {
    steps: Vec<Step>,
    starts: Vec<i64>,
    loop_ms: Option<i64>,
}

impl Timeline {
    pub(crate) fn new(mut steps: Vec<Step>, loop_seconds: Option<f64>) -> Arc<Self> {
        steps.sort_by(|a, b| a.at.total_cmp(&b.at));
        for i in 1..steps.len() {
            let (before, rest) = steps.split_at_mut(i);
            let (Some(last), Some(step)) = (before.last(), rest.first_mut()) else { continue };
            inherit(step, last);
        }
        let starts = steps.iter().map(|s| seconds_to_ms(s.at)).collect();
        Arc::new(Self { steps, starts, loop_ms: loop_seconds.map(seconds_to_ms).filter(|l| *l > 0) })
    }

    /// The step at `elapsed`, when it began, and when the next one does. No step: the task is not there yet.
    fn locate(&self, elapsed: i64) -> (Option<usize>, i64, i64) {
        let (base, rest) = match self.loop_ms {
            Some(l) if elapsed >= 0 => (elapsed.div_euclid(l) * l, elapsed.rem_euclid(l)),
            _ => (0, elapsed),
        };
        let following = self.starts.partition_point(|s| *s <= rest);
        let next = match (self.starts.get(following), self.loop_ms) {
            (Some(next), Some(l)) => base + (*next).min(l),
            (Some(next), None) => *next,
            (None, Some(l)) => base + l,
            (None, None) => NEVER,
        };
        match following.checked_sub(1) {
            Some(i) => (Some(i), base + self.starts[i], next),
            None => (None, base, next),
        }
    }
}

/// What a step does not say stays as it was.
pub(crate) fn inherit(step: &mut Step, before: &Step) {
    step.percent = step.percent.or(before.percent);
    step.entities = step.entities.take().or_else(|| before.entities.clone());
    step.metadata = step.metadata.take().or_else(|| before.metadata.clone());
    step.response = step.response.take().or_else(|| before.response.clone());
    if step.state.is_empty() {
        step.state.clone_from(&before.state);
    }
}

/// One task.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) id: String,
    pub(crate) common: Arc<Common>,
    pub(crate) created_ms: i64,
    timeline: Arc<Timeline>,
    timeline_ms: i64,
    current: Option<usize>,
    /// When the current step began.
    pub(crate) since_ms: i64,
    next_ms: i64,
    body: Option<Bytes>,
    projections: Vec<(String, Bytes)>,
}

impl Task {
    pub(crate) fn new(id: String, common: Arc<Common>, timeline: Arc<Timeline>, start_ms: i64) -> Self {
        Self {
            id,
            common,
            created_ms: start_ms,
            timeline,
            timeline_ms: start_ms,
            current: None,
            since_ms: start_ms,
            next_ms: NEVER,
            body: None,
            projections: Vec::new(),
        }
    }

    /// The current step, unless the upstream does not know the task now.
    pub(crate) fn step(&self) -> Option<&Step> {
        self.current_step().filter(|s| !s.gone)
    }

    /// The current step, be the task gone or not.
    pub(crate) fn current_step(&self) -> Option<&Step> {
        self.current.and_then(|i| self.timeline.steps.get(i))
    }

    fn advance(&mut self, now: i64) {
        let (current, since, next) = self.timeline.locate(now - self.timeline_ms);
        let since_ms = self.timeline_ms.saturating_add(since);
        self.next_ms = if next == NEVER { NEVER } else { self.timeline_ms.saturating_add(next) };
        if current != self.current || since_ms != self.since_ms {
            self.current = current;
            self.since_ms = since_ms;
            self.body = None;
            self.projections.clear();
        }
    }

    /// The answer's body, rendered at most once a step.
    pub(crate) fn body(&mut self, render: impl FnOnce(&Self, &Step) -> Vec<u8>) -> Option<Bytes> {
        if self.body.is_none() {
            let step = self.step()?;
            self.body = Some(Bytes::from(render(self, step)));
        }
        self.body.clone().filter(|_| self.step().is_some())
    }

    /// Likewise, for a choice of fields.
    pub(crate) fn projection(&mut self, key: &str, render: impl FnOnce(&Self, &Step) -> Vec<u8>) -> Option<Bytes> {
        let step = self.step()?;
        if let Some((_, kept)) = self.projections.iter().find(|(k, _)| k == key) {
            return Some(kept.clone());
        }
        let made = Bytes::from(render(self, step));
        if self.projections.len() >= KEPT_PROJECTIONS {
            self.projections.remove(0);
        }
        self.projections.push((key.to_owned(), made.clone()));
        Some(made)
    }
}

/// The tasks of a scope, in the order of their making.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    by_seq: BTreeMap<u64, Task>,
    by_id: HashMap<String, u64>,
    due: BinaryHeap<Reverse<(i64, u64)>>,
    next_seq: u64,
    version: u64,
    advanced_to: i64,
    lists: HashMap<String, (u64, Bytes)>,
}

impl Tasks {
    /// Brings every task to `now`. Costs only the tasks that are due, unless the clock went back.
    pub(crate) fn advance(&mut self, now: i64) {
        if now < self.advanced_to {
            self.due.clear();
            for (seq, task) in &mut self.by_seq {
                task.advance(now);
                if task.next_ms != NEVER {
                    self.due.push(Reverse((task.next_ms, *seq)));
                }
            }
            self.version += 1;
        }
        self.advanced_to = now;
        while let Some(Reverse((at, seq))) = self.due.peek().copied() {
            if at > now {
                break;
            }
            self.due.pop();
            let Some(task) = self.by_seq.get_mut(&seq).filter(|t| t.next_ms == at) else { continue };
            task.advance(now);
            self.version += 1;
            if task.next_ms != NEVER {
                self.due.push(Reverse((task.next_ms, seq)));
            }
        }
    }

    /// Adds a task, or puts it in the place of the one with its ID.
    pub(crate) fn put(&mut self, mut task: Task, now: i64) {
        task.advance(now);
        let seq = self.by_id.get(&task.id).copied().unwrap_or_else(|| {
            self.next_seq += 1;
            self.next_seq
        });
        if task.next_ms != NEVER {
            self.due.push(Reverse((task.next_ms, seq)));
        }
        self.by_id.insert(task.id.clone(), seq);
        self.by_seq.insert(seq, task);
        self.version += 1;
    }

    /// Gives a task other steps, from now on. False: there is no such task.
    pub(crate) fn rewrite(&mut self, id: &str, mut steps: Vec<Step>, now: i64) -> bool {
        let Some((seq, task)) = self.by_id.get(id).and_then(|seq| Some((*seq, self.by_seq.get_mut(seq)?))) else {
            return false;
        };
        if let (Some(first), Some(before)) = (steps.first_mut(), task.current_step()) {
            inherit(first, before);
        }
        task.timeline = Timeline::new(steps, None);
        task.timeline_ms = now;
        // The same step number of another timeline is another step.
        task.current = None;
        task.body = None;
        task.projections.clear();
        task.advance(now);
        if task.next_ms != NEVER {
            self.due.push(Reverse((task.next_ms, seq)));
        }
        self.version += 1;
        true
    }

    pub(crate) fn remove(&mut self, id: &str) -> bool {
        let Some(seq) = self.by_id.remove(id) else { return false };
        self.by_seq.remove(&seq);
        self.version += 1;
        true
    }

    pub(crate) fn clear(&mut self) {
        let version = self.version + 1;
        *self = Self { version, next_seq: self.next_seq, ..Self::default() };
    }

    /// Renders everything anew.
    pub(crate) fn forget_rendered(&mut self) {
        for task in self.by_seq.values_mut() {
            task.body = None;
            task.projections.clear();
        }
        self.version += 1;
    }

    pub(crate) fn get_mut(&mut self, id: &str) -> Option<&mut Task> {
        self.by_seq.get_mut(self.by_id.get(id)?)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Task> {
        self.by_seq.values()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Task> {
        self.by_seq.values_mut()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_seq.len()
    }

    /// Rises with every change.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// A list as it was sent for the same question, if nothing has changed since.
    pub(crate) fn kept_list(&self, query: &str) -> Option<Bytes> {
        self.lists.get(query).filter(|(version, _)| *version == self.version).map(|(_, body)| body.clone())
    }

    pub(crate) fn keep_list(&mut self, query: &str, body: &Bytes) {
        let version = self.version;
        if self.lists.len() >= KEPT_LISTS {
            self.lists.clear();
        }
        self.lists.insert(query.to_owned(), (version, body.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(at: f64, state: &str) -> Step {
        Step { at, state: state.to_owned(), ..Step::default() }
    }

    fn task(steps: Vec<Step>, loop_seconds: Option<f64>) -> Task {
        Task::new("a".to_owned(), Arc::default(), Timeline::new(steps, loop_seconds), 1_000_000)
    }

    fn state(tasks: &mut Tasks, now: i64) -> Option<String> {
        tasks.advance(now);
        tasks.get_mut("a").and_then(|t| t.step().map(|s| s.state.clone()))
    }

    #[test]
    fn steps_follow_the_clock_forth_and_back() {
        let mut tasks = Tasks::default();
        tasks.put(task(vec![step(5.0, "B"), step(1.0, "A")], None), 1_000_000);
        assert_eq!(state(&mut tasks, 1_000_500), None, "not made yet");
        assert_eq!(state(&mut tasks, 1_001_000).as_deref(), Some("A"));
        assert_eq!(state(&mut tasks, 1_004_999).as_deref(), Some("A"));
        let before = tasks.version();
        assert_eq!(state(&mut tasks, 1_005_000).as_deref(), Some("B"));
        assert!(tasks.version() > before);
        assert_eq!(state(&mut tasks, 1_002_000).as_deref(), Some("A"), "the clock went back");
        assert_eq!(state(&mut tasks, 9_000_000).as_deref(), Some("B"));
    }

    #[test]
    fn loops_change_once_a_step_and_keep_what_is_rendered() {
        let mut tasks = Tasks::default();
        tasks.put(task(vec![step(0.0, "A"), step(2.0, "B")], Some(4.0)), 1_000_000);
        let seen: Vec<_> = (0..10).map(|s| state(&mut tasks, 1_000_000 + s * 1000).unwrap()).collect();
        assert_eq!(seen.concat(), "AABBAABBAA");
        let version = tasks.version();
        let task = tasks.get_mut("a").unwrap();
        assert_eq!(task.body(|_, s| s.state.clone().into_bytes()).unwrap(), "A");
        assert_eq!(task.body(|_, _| unreachable!("kept")).unwrap(), "A");
        assert_eq!(state(&mut tasks, 1_009_500).as_deref(), Some("A"));
        assert_eq!(tasks.version(), version, "nothing changed");
    }

    #[test]
    fn a_script_takes_over() {
        let mut tasks = Tasks::default();
        let mut first = step(0.0, "A");
        first.percent = Some(20.0);
        tasks.put(task(vec![first], None), 1_000_000);
        assert!(tasks.rewrite("a", vec![step(0.0, "C"), step(3.0, "D")], 1_002_000));
        assert_eq!(state(&mut tasks, 1_002_000).as_deref(), Some("C"));
        assert_eq!(tasks.get_mut("a").unwrap().step().unwrap().percent, Some(20.0));
        assert_eq!(state(&mut tasks, 1_005_000).as_deref(), Some("D"));
        assert!(!tasks.rewrite("b", Vec::new(), 0));
        assert!(tasks.remove("a"));
        assert!(!tasks.remove("a"));
    }
}
