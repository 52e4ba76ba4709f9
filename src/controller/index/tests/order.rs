//! What the engine is told of a watch, in any order of the steps that workers and the watch of the API server take: in the end it polls what
//! the index says that it was asked for, and nothing else.

use proptest::prelude::*;

use super::*;

/// What a worker is about to tell the engine, without the index's lock.
#[derive(Debug)]
enum Tell {
    Watch(u64),
    Forget,
}

/// The younger of two watches, of which one is served; a worker; and the engine.
struct World {
    index: Index,
    tell: Option<Tell>,
    /// What the engine polls for the watch.
    polls: Option<u64>,
    version: u64,
}

const OLDER: &str = "u1";
const YOUNGER: &str = "u2";

fn key(uid: &str) -> WatchKey {
    WatchKey(Arc::from(uid))
}

impl World {
    fn new() -> Self {
        let index = Index::new(Pool::new(1 << 20, 1 << 16), Some(1), Quotas::default());
        let mut world = Self { index, tell: None, polls: None, version: 0 };
        world.put(YOUNGER);
        world
    }

    fn object(&mut self, uid: &str) -> TaskWatch {
        self.version += 1;
        let second = if uid == OLDER { 10 } else { 20 };
        watch(uid, self.version, &json!({"creationTimestamp": format!("2026-11-22T10:12:{second}Z")}))
    }

    fn put(&mut self, uid: &str) {
        let object = self.object(uid);
        self.index.put_watch(object);
    }

    /// As the watch of the API server does.
    fn remove(&mut self, uid: &str) {
        let polled = self.index.remove_watch(&key(uid));
        if uid == YOUNGER && polled.is_some() {
            self.polls = None;
        }
    }

    /// The worker that has the younger one takes its next step; one that plans wants it polled, or not.
    fn work(&mut self, wants: bool) {
        let younger = key(YOUNGER);
        match self.tell.take() {
            Some(Tell::Forget) => self.polls = None,
            Some(Tell::Watch(print)) => {
                self.polls = Some(print);
                if !self.index.registered(&younger, print, true) {
                    self.tell = Some(Tell::Forget);
                }
            }
            None if self.index.outside(&younger).is_some() => {
                self.tell = self.index.take_polled(&younger).map(|_| Tell::Forget);
            }
            None => {
                let Some(entry) = self.index.watches.get_mut(&younger) else { return };
                let wanted = wants.then_some(entry.interest.ticket());
                if entry.interest.registered() == wanted {
                    return;
                }
                match wanted {
                    Some(print) => drop(entry.interest.register(print)),
                    None => entry.call_off(),
                }
                self.tell = Some(wanted.map_or(Tell::Forget, Tell::Watch));
            }
        }
    }
}

proptest! {
    #[test]
    fn the_engine_polls_what_it_was_asked_for_last(
        steps in proptest::collection::vec((0_u8..9, any::<bool>()), 0..40), wants in any::<bool>(),
    ) {
        let mut world = World::new();
        for (step, wanted) in steps {
            match step {
                0 => world.put(OLDER),
                1 => world.remove(OLDER),
                2 => world.put(YOUNGER),
                3 => world.remove(YOUNGER),
                4 => {
                    let read = world.object(YOUNGER);
                    world.index.put_outside(read);
                }
                _ => world.work(wanted),
            }
        }
        for _ in 0..4 {
            world.work(wants);
        }
        let entry = world.index.watches.get(&key(YOUNGER));
        prop_assert_eq!(world.polls, entry.and_then(|entry| entry.interest.registered()));
        prop_assert_eq!(world.polls, entry.filter(|_| wants).map(|entry| entry.interest.ticket()));
    }
}

#[test]
fn what_was_reported_to_nobody_is_asked_for_again() {
    let mut world = World::new();
    world.work(true);
    world.work(true);
    let first = world.polls;
    world.put(OLDER);
    world.remove(OLDER);
    world.put(YOUNGER);
    world.work(true);
    world.work(true);
    assert!(first.is_some() && world.polls > first, "by a new ticket: {:?}", world.polls);
}

#[test]
fn what_is_gone_is_not_brought_back_by_what_was_read_before() {
    let mut world = World::new();
    world.put(OLDER);
    let read = world.object(YOUNGER);
    world.remove(YOUNGER);
    assert!(!world.index.put_outside(read));
    assert_eq!(world.index.keys(None), [key(OLDER)]);
}

#[test]
fn what_is_read_again_is_served_as_soon_as_there_is_room() {
    let mut world = World::new();
    world.put(OLDER);
    let read = world.object(YOUNGER);
    assert!(world.index.put_outside(read.clone()), "it is still beyond the limit");
    world.remove(OLDER);
    assert!(!world.index.put_outside(read), "it is served from now on");
    assert!(world.index.watches.contains_key(&key(YOUNGER)));
}
