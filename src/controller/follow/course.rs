//! What is to be asked of the API server next to follow one collection: a list in pages, then a watch, and after each watch a look
//! whether the history is still the same. Decides; does no IO.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{
    history::{Change, Comparison, History},
    pages::Pages,
};
use crate::domain::backoff::Backoff;

/// The shortest and the longest wait after a failure.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(800), Duration::from_secs(30));
/// A watch that ends sooner without having told anything has failed, in whatever manner it ends.
const STEADY: Duration = Duration::from_secs(5);

/// The next request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ask<'a> {
    /// A page of the list.
    Page {
        /// Objects at most.
        limit: u32,
        /// Bytes at most.
        cap: usize,
        /// Where the page before ended; none for the first one.
        token: Option<&'a str>,
    },
    /// The next object of the list, metadata only: the whole of it is too large.
    Outline {
        /// Where the page before ended.
        token: Option<&'a str>,
    },
    /// The present version of the collection, and of the object that changed last.
    Look(Option<&'a Change>),
    /// What changes from this version on.
    Watch(u64),
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    List {
        token: Option<String>,
        /// The next object by itself is more than is read.
        is_oversized: bool,
        /// Its pages are not of one moment.
        is_torn: bool,
    },
    Look {
        /// The API server itself ended the watch, and nothing has failed since. So it runs on, and its history with it: etcd is restored
        /// while no API server runs. One that is busy ends watches early; to list everything then would make it busier.
        was_clean: bool,
    },
    Watch {
        has_told: bool,
    },
}

impl Phase {
    const BEGIN: Self = Self::List { token: None, is_oversized: false, is_torn: false };
    const WATCH: Self = Self::Watch { has_told: false };
}

/// What became of a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Paged {
    /// It begins a list of another history than was told so far.
    pub(super) is_other_history: bool,
    /// It was the last one: what was not listed is no more.
    pub(super) is_complete: bool,
}

/// The course of following one collection.
#[derive(Debug)]
pub(super) struct Course {
    phase: Phase,
    pages: Pages,
    history: History,
    /// Failures in a row.
    failures: u32,
    /// Lists in a row that expired before their end.
    expiries: u32,
}

impl Default for Course {
    fn default() -> Self {
        Self { phase: Phase::BEGIN, pages: Pages::default(), history: History::default(), failures: 0, expiries: 0 }
    }
}

impl Course {
    /// What to ask for next.
    pub(super) fn ask(&self) -> Ask<'_> {
        match &self.phase {
            Phase::List { token, is_oversized: true, .. } => Ask::Outline { token: token.as_deref() },
            Phase::List { token, .. } => {
                Ask::Page { limit: self.pages.limit(), cap: self.pages.cap(), token: token.as_deref() }
            }
            Phase::Look { .. } => Ask::Look(self.history.newest()),
            Phase::Watch { .. } => Ask::Watch(self.history.seen()),
        }
    }

    /// A page arrived: the version of the collection that it is of, where the next one begins, its objects and bytes. To be called
    /// before its objects are taken in.
    pub(super) fn page(&mut self, version: u64, next: Option<String>, objects: usize, bytes: usize) -> Paged {
        let Phase::List { is_oversized, is_torn, .. } = self.phase else { return Paged::default() };
        if !is_oversized {
            self.pages.read(objects, bytes);
        }
        let is_other_history = version < self.history.seen();
        if is_other_history {
            self.history.begin_again();
        }
        self.history.reached(version);
        let is_complete = next.is_none();
        self.failures = 0;
        self.phase = match next {
            Some(token) => Phase::List { token: Some(token), is_oversized: false, is_torn },
            // What changed between its moments is missing: it serves until there is a better one.
            None if is_torn => {
                self.failures = 1;
                Phase::BEGIN
            }
            None => {
                self.expiries = 0;
                Phase::WATCH
            }
        };
        Paged { is_other_history, is_complete }
    }

    /// A page was larger than was asked for.
    pub(super) fn page_too_large(&mut self) {
        if let Phase::List { is_oversized, .. } = &mut self.phase
            && !self.pages.too_large()
        {
            *is_oversized = true;
        }
    }

    /// An object of the page was taken in.
    pub(super) fn listed(&mut self, meta: &ObjectMeta) {
        self.history.changed(meta, false);
    }

    /// An object has changed or was deleted. Returns whether its version says that the history is another one.
    pub(super) fn changed(&mut self, meta: &ObjectMeta, is_deleted: bool) -> bool {
        self.told();
        self.history.changed(meta, is_deleted) && self.other_history()
    }

    /// The watch says that the collection is at this version. Returns whether the history is another one.
    pub(super) fn bookmark(&mut self, version: u64) -> bool {
        self.told();
        self.history.reached(version) && self.other_history()
    }

    fn told(&mut self) {
        self.failures = 0;
        if let Phase::Watch { has_told } = &mut self.phase {
            *has_told = true;
        }
    }

    /// The look shows the present version of the collection, and what there is under the name of the object that changed last.
    /// Returns whether the history is another one.
    pub(super) fn looked(&mut self, version: u64, found: Option<&ObjectMeta>) -> bool {
        let Phase::Look { was_clean } = self.phase else { return false };
        match self.history.compare(version, found) {
            Comparison::Replaced => return self.other_history(),
            Comparison::Uncertain if !was_clean => self.phase = Phase::BEGIN,
            Comparison::Uncertain | Comparison::Continued => self.phase = Phase::WATCH,
        }
        false
    }

    /// The history is another one: all is listed again. True, for those who pass it on.
    pub(super) fn other_history(&mut self) -> bool {
        self.history.begin_again();
        self.phase = Phase::BEGIN;
        true
    }

    /// The watch ended, as agreed or broken off, after so long.
    pub(super) fn watch_ended(&mut self, was_clean: bool, lasted: Duration) {
        let has_told = matches!(self.phase, Phase::Watch { has_told: true });
        self.failures = if was_clean && (has_told || lasted >= STEADY) { 0 } else { self.failures + 1 };
        self.phase = Phase::Look { was_clean };
    }

    /// What was asked for is not there any more, or not yet. With `token`, an expired list can be continued.
    pub(super) fn out_of_reach(&mut self, token: Option<String>) {
        self.failures += 1;
        self.expiries += 1;
        self.phase = match (&self.phase, token) {
            // The first time it is begun again: that may do. If lists expire always, a torn one is better than none.
            (Phase::List { .. }, Some(token)) if self.expiries > 1 => {
                Phase::List { token: Some(token), is_oversized: false, is_torn: true }
            }
            _ => Phase::BEGIN,
        };
    }

    /// It failed; the same is to be asked again.
    pub(super) fn failed(&mut self) {
        self.failures += 1;
        if let Phase::Look { was_clean } = &mut self.phase {
            *was_clean = false;
        }
    }

    /// How long to wait before the next request; none without a failure. `random` from 0 to 1 spreads the waits.
    pub(super) fn wait(&self, random: f64) -> Option<Duration> {
        let doublings = self.failures.checked_sub(1)?;
        let wait = BACKOFF.doubled(doublings);
        Some(wait.mul_f64(0.75 + 0.25 * random.clamp(0.0, 1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(name: &str, version: u64) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.to_owned()),
            uid: Some(format!("uid-{name}")),
            resource_version: Some(version.to_string()),
            ..ObjectMeta::default()
        }
    }

    fn token(course: &Course) -> Option<&str> {
        match course.ask() {
            Ask::Page { token, .. } | Ask::Outline { token } => token,
            other => panic!("{other:?}"),
        }
    }

    /// Has listed `a` at 90 and watches from 100.
    fn watching() -> Course {
        let mut course = Course::default();
        course.page(100, None, 1, 2_000);
        course.listed(&meta("a", 90));
        assert_eq!(course.ask(), Ask::Watch(100));
        course
    }

    #[test]
    fn a_list_goes_on_by_pages_and_then_into_a_watch() {
        let mut course = Course::default();
        assert!(matches!(course.ask(), Ask::Page { limit: 25, token: None, .. }));
        let more = course.page(100, Some("t1".to_owned()), 25, 50_000);
        assert_eq!(more, Paged { is_other_history: false, is_complete: false });
        assert_eq!(token(&course), Some("t1"));
        assert!(course.page(100, None, 3, 6_000).is_complete);
        assert_eq!(course.ask(), Ask::Watch(100));
        assert!(!course.changed(&meta("a", 120), false));
        assert!(!course.bookmark(130));
        course.watch_ended(true, STEADY);
        assert!(matches!(course.ask(), Ask::Look(Some(change)) if change.name == "a"));
        assert!(!course.looked(140, Some(&meta("a", 120))));
        assert_eq!(course.ask(), Ask::Watch(130), "from what was told, not from what was looked at");
    }

    #[test]
    fn where_nothing_has_changed_the_history_is_the_same() {
        let mut course = Course::default();
        for next in [Some("t1"), Some("t2"), None] {
            assert!(!course.page(100, next.map(str::to_owned), 25, 50_000).is_other_history, "{next:?}");
        }
        course.out_of_reach(None);
        assert!(!course.page(100, None, 25, 50_000).is_other_history, "listed again");
    }

    #[test]
    fn an_object_that_is_too_large_by_itself_is_passed_by() {
        let mut course = Course::default();
        course.page(100, Some("t1".to_owned()), 25, 50_000);
        let mut tries = 0;
        while matches!(course.ask(), Ask::Page { .. }) {
            course.page_too_large();
            tries += 1;
        }
        assert_eq!((tries, course.ask()), (3, Ask::Outline { token: Some("t1") }));
        course.page(100, Some("t2".to_owned()), 1, 300);
        assert!(
            matches!(course.ask(), Ask::Page { limit: 1, token: Some("t2"), .. }),
            "its size is not that of the next"
        );
    }

    #[test]
    fn what_is_out_of_reach_is_listed_again() {
        let mut course = watching();
        course.out_of_reach(None);
        assert_eq!(token(&course), None);
        course.page(200, Some("t1".to_owned()), 25, 50_000);
        course.out_of_reach(Some("torn".to_owned()));
        assert_eq!(token(&course), Some("torn"), "it expired for the second time");
        assert!(course.page(300, None, 2, 100).is_complete, "a torn list serves");
        assert_eq!(token(&course), None, "until there is a better one");
        assert!(course.wait(0.0).is_some(), "which is not asked for at once");
        assert!(course.page(300, None, 2, 100).is_complete);
        assert_eq!((course.ask(), course.wait(0.0)), (Ask::Watch(300), None));
    }

    #[test]
    fn an_expired_list_is_first_begun_again() {
        let mut course = Course::default();
        course.page(100, Some("t1".to_owned()), 25, 50_000);
        course.out_of_reach(Some("torn".to_owned()));
        assert_eq!(token(&course), None);
    }

    #[test]
    fn another_history_is_noticed_by_whatever_shows_it() {
        let mut by_bookmark = watching();
        assert!(by_bookmark.bookmark(99));
        let mut by_event = watching();
        by_event.bookmark(200);
        assert!(by_event.changed(&meta("b", 150), false));
        let mut by_look = watching();
        by_look.watch_ended(true, STEADY);
        assert!(by_look.looked(99, None));
        let mut by_object = watching();
        by_object.watch_ended(false, STEADY);
        assert!(by_object.looked(500, Some(&meta("a", 80))));
        for mut course in [by_bookmark, by_event, by_look, by_object] {
            assert_eq!(token(&course), None, "all is listed again");
            assert!(!course.page(50, None, 0, 100).is_other_history, "it was told already");
            assert_eq!(course.ask(), Ask::Watch(50));
        }
        let mut by_list = watching();
        by_list.out_of_reach(None);
        assert!(by_list.page(99, None, 0, 100).is_other_history);
        assert_eq!(by_list.ask(), Ask::Watch(99));
    }

    #[test]
    fn what_remains_uncertain_is_listed_again_only_after_a_break() {
        for (was_clean, lasted, look_fails, lists) in [
            (true, STEADY, false, false),
            (true, STEADY / 5, false, false),
            (true, STEADY, true, true),
            (false, STEADY, false, true),
        ] {
            let mut course = watching();
            course.watch_ended(was_clean, lasted);
            if look_fails {
                course.failed();
            }
            assert!(!course.looked(500, None));
            assert_eq!(matches!(course.ask(), Ask::Page { .. }), lists, "{was_clean} {lasted:?} {look_fails}");
        }
    }

    #[test]
    fn waits_grow_to_a_limit_and_end_with_success() {
        let mut course = watching();
        assert_eq!(course.wait(1.0), None);
        let waits: Vec<_> = std::iter::repeat_with(|| {
            course.failed();
            course.wait(1.0).unwrap().as_millis()
        })
        .take(8)
        .collect();
        assert_eq!(waits, [800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
        assert_eq!(course.wait(0.0), Some(Duration::from_millis(22_500)));
        course.bookmark(500);
        assert_eq!(course.wait(1.0), None);
        course.watch_ended(true, STEADY);
        assert_eq!(course.wait(1.0), None);
        course.looked(500, None);
        course.watch_ended(true, STEADY / 2);
        assert!(course.wait(1.0).is_some(), "one that ends at once is no success");
        course.looked(500, None);
        course.bookmark(501);
        course.watch_ended(true, STEADY / 2);
        assert_eq!(course.wait(1.0), None, "but one that told something is");
    }
}
