//! Handling foreign input so that a panic over it costs that input alone.
//!
//! A panic is a defect of ours; whoever finds one must not be able to end the process for everybody with it. Work on what comes from
//! outside (one object of the API server, one answer of an upstream) is run by [`Guard::run`], which turns a panic into an error.
//! Any other panic ends the process ([`install`]): a task of the runtime that vanished alone would leave behind an operator that
//! looks healthy and does a part of its work.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;
use tracing::error;

use super::metrics::Metrics;

use crate::{sync::lock, tenancy::Tenant};

/// Panics over more different subjects than these within [`WINDOW`] are no longer the fault of single inputs: the process ends, to
/// begin again from a clean state.
pub const MANY: usize = 50;
/// So many subjects of one tenant count towards [`MANY`]: a few namespaces cannot end the process for everybody, whatever they find.
pub const MANY_OF_TENANT: usize = 5;
/// How long a panic counts towards [`MANY`].
pub const WINDOW: Duration = Duration::from_secs(60);

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
    /// Where the last panic on this thread began, as file:line; the payload does not say.
    static LOCATION: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// What is done with foreign input (label `stage` of `taskwatch_panics_total`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// An object of the API server is read.
    Read,
    /// A status is decided.
    Decide,
    /// A connection is prepared from its object and Secret.
    Resolve,
    /// An answer of an upstream is decoded.
    Decode,
}

impl Stage {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Read, Self::Decide, Self::Resolve, Self::Decode];

    /// The label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Decide => "decide",
            Self::Resolve => "resolve",
            Self::Decode => "decode",
        }
    }
}

/// Whose input is worked on: the object or connection that is to be quarantined when that fails, and its tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    tenant: u64,
    which: u64,
}

impl Subject {
    /// What `which` names, on the account of `tenant`.
    #[must_use]
    pub fn new(tenant: &Tenant, which: &impl Hash) -> Self {
        Self { tenant: hashed(tenant), which: hashed(which) }
    }
}

fn hashed(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// Work that panicked. Its text may be shown to anybody: it has nothing of the input in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a defect in TaskWatch: panic at {location}{}", .message.map(|text| format!(": {text}")).unwrap_or_default())]
pub struct Panicked {
    location: String,
    message: Option<&'static str>,
}

impl Panicked {
    /// Only a message that stands in the source as it is can be shown: one that was put together may quote the input.
    fn of(payload: &(dyn Any + Send)) -> Self {
        let location = LOCATION.take().unwrap_or_else(|| "an unknown place".to_owned());
        Self { location, message: payload.downcast_ref::<&'static str>().copied() }
    }
}

/// Runs work on foreign input; clones share the count of what went wrong.
#[derive(Clone)]
pub struct Guard(Arc<Inner>);

struct Inner {
    metrics: Metrics,
    recent: Mutex<Recent>,
    /// Ends the process; a test puts something milder here.
    end: fn(),
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}

impl Guard {
    /// A guard that counts in `metrics`. There is one in the process.
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        Self::ending_by(metrics, || std::process::abort())
    }

    fn ending_by(metrics: Metrics, end: fn()) -> Self {
        Self(Arc::new(Inner { metrics, recent: Mutex::default(), end }))
    }

    /// Does `work` on input of `subject`, which is asked for only when it fails. `work` may not leave anything half changed that outlives
    /// it, save what the caller throws away on an error.
    ///
    /// Ends the process when more than [`MANY`] different subjects have failed within [`WINDOW`], of which no tenant has more than
    /// [`MANY_OF_TENANT`].
    ///
    /// # Errors
    /// It panicked. The subject's input is to be set aside: doing the same again at once gives the same.
    pub fn run<T>(
        &self,
        stage: Stage,
        subject: impl FnOnce() -> Subject,
        work: impl FnOnce() -> T,
    ) -> Result<T, Panicked> {
        guarded(work).map_err(|payload| {
            let panicked = Panicked::of(payload.as_ref());
            // A payload whose own drop panics would end the process after all.
            std::mem::forget(payload);
            // Whose it is may be read from the same input, and fail for the same reason.
            let subject = guarded(subject).unwrap_or_else(|payload| {
                std::mem::forget(payload);
                Subject::new(&Tenant::shared(), &())
            });
            self.note(stage, subject, &panicked);
            panicked
        })
    }

    fn note(&self, stage: Stage, subject: Subject, panicked: &Panicked) {
        self.0.metrics.panicked(stage);
        let mut recent = lock(&self.0.recent);
        let noted = recent.note(subject, Instant::now());
        drop(recent);
        match noted {
            Noted::Again | Noted::TenantHasMany => {}
            Noted::New => {
                error!(stage = stage.as_str(), %panicked, "one object's input is set aside; the rest goes on");
            }
            Noted::TooMany => {
                error!(stage = stage.as_str(), %panicked, "panics over more than {MANY} objects within a minute: ending the process");
                (self.0.end)();
            }
        }
    }
}

/// Does work over which a panic ends nothing. Returns that panic's payload.
fn guarded<T>(work: impl FnOnce() -> T) -> std::thread::Result<T> {
    let outer = GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(outer);
    result
}

/// The subjects of the latest panics; never more than [`MANY`] and one.
#[derive(Debug, Default)]
struct Recent(HashMap<u64, Failed>);

/// When a subject last failed, and whose it is.
#[derive(Clone, Copy, Debug)]
struct Failed {
    at: Instant,
    tenant: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Noted {
    /// The subject panicked within the window before: nothing new.
    Again,
    /// Another subject.
    New,
    /// Another one of a tenant that has as many as count.
    TenantHasMany,
    /// More subjects than are the fault of single inputs.
    TooMany,
}

impl Recent {
    fn note(&mut self, Subject { tenant, which }: Subject, now: Instant) -> Noted {
        self.0.retain(|_, failed| now.saturating_duration_since(failed.at) < WINDOW);
        if let Some(failed) = self.0.get_mut(&which) {
            failed.at = now;
            return Noted::Again;
        }
        if self.0.values().filter(|failed| failed.tenant == tenant).count() >= MANY_OF_TENANT {
            return Noted::TenantHasMany;
        }
        self.0.insert(which, Failed { at: now, tenant });
        if self.0.len() > MANY {
            self.0.clear();
            return Noted::TooMany;
        }
        Noted::New
    }
}

/// From now on a panic ends the process, unless it comes from work that a [`Guard`] runs. To be called once, when the process starts.
pub fn install() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if GUARDED.get() {
            remember(panic);
        } else {
            report(panic);
            std::process::abort();
        }
    }));
}

fn remember(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(|at| format!("{}:{}", at.file(), at.line()));
    LOCATION.set(location);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    /// One of many, each of another tenant.
    fn subject(number: usize) -> Subject {
        Subject::new(&tenant(number), &number)
    }

    fn tenant(number: usize) -> Tenant {
        Tenant::namespace(&format!("n{number}").into())
    }

    fn panics(metrics: &Metrics, stage: &str) -> bool {
        metrics.render().contains(&format!("taskwatch_panics_total{{stage=\"{stage}\"}} 1\n"))
    }

    #[test]
    fn a_panic_is_an_error_of_that_work_and_counted() {
        let metrics = Metrics::new();
        let guard = Guard::new(metrics.clone());
        assert_eq!(guard.run(Stage::Decode, || subject(0), || 7), Ok(7));
        assert!(!panics(&metrics, "decode"));
        let panicked = guard.run(Stage::Decode, || subject(0), || panic!("a fixed text")).unwrap_err();
        assert!(panicked.to_string().ends_with(": a fixed text"), "{panicked}");
        assert!(panics(&metrics, "decode"));
        assert_eq!(guard.run(Stage::Decode, || subject(0), || 8), Ok(8), "the guard goes on");
    }

    #[test]
    fn whose_input_it_is_may_be_impossible_to_say() {
        let guard = Guard::new(Metrics::new());
        let panicked = guard.run(Stage::Read, || panic!("of whom?"), || panic!("planted")).unwrap_err();
        assert!(panicked.to_string().ends_with(": planted"), "{panicked}");
        assert!(!GUARDED.get());
    }

    #[test]
    fn nothing_of_the_input_is_in_the_error() {
        let guard = Guard::new(Metrics::new());
        let input = "hunter2 é".to_owned();
        let sliced = guard.run(Stage::Read, || subject(0), || input[..9].to_owned()).unwrap_err();
        let told = guard.run(Stage::Read, || subject(0), || panic!("{input} is wrong")).unwrap_err();
        for text in [format!("{sliced} {sliced:?}"), format!("{told} {told:?}")] {
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn only_many_different_subjects_within_a_minute_end_the_process() {
        static ENDS: AtomicUsize = AtomicUsize::new(0);
        let guard = Guard::ending_by(Metrics::new(), || {
            ENDS.fetch_add(1, Relaxed);
        });
        let fail = |subject: usize| drop(guard.run(Stage::Read, || self::subject(subject), || panic!("planted")));
        (0..10 * MANY).for_each(|_| fail(0));
        (0..MANY).for_each(fail);
        assert_eq!(ENDS.load(Relaxed), 0, "as many as are allowed");
        fail(MANY);
        assert_eq!(ENDS.load(Relaxed), 1);
    }

    #[test]
    fn a_few_tenants_with_many_poisoned_objects_end_nothing() {
        static ENDS: AtomicUsize = AtomicUsize::new(0);
        let guard = Guard::ending_by(Metrics::new(), || {
            ENDS.fetch_add(1, Relaxed);
        });
        let fail = |of: usize, which: usize| {
            drop(guard.run(Stage::Decide, || Subject::new(&tenant(of), &(of, which)), || panic!("planted")));
        };
        let few = MANY / MANY_OF_TENANT;
        (0..1000).for_each(|which| fail(which % few, which));
        assert_eq!(ENDS.load(Relaxed), 0);
        fail(few, 0);
        assert_eq!(ENDS.load(Relaxed), 1, "one of another tenant is one more");
    }

    #[test]
    fn what_is_over_does_not_count() {
        let (mut recent, start) = (Recent::default(), Instant::now());
        for subject in 0..10 * MANY {
            // As many in each minute as are allowed.
            let at = start + WINDOW.mul_f64(f64::from(u32::try_from(subject).unwrap()) / f64::from(50)) + WINDOW / 1000;
            assert_eq!(recent.note(self::subject(subject), at), Noted::New, "{subject}");
        }
        let now = start + WINDOW * 20;
        assert_eq!(recent.note(subject(1), now), Noted::New);
        assert_eq!(recent.note(subject(1), now), Noted::Again);
    }

    #[test]
    fn work_within_work_stays_guarded_to_its_end() {
        let guard = Guard::new(Metrics::new());
        let outer = guard.run(
            Stage::Decide,
            || subject(0),
            || {
                drop(guard.run(Stage::Decode, || subject(1), || panic!("inner")));
                assert!(GUARDED.get(), "the outer work is still guarded");
                1
            },
        );
        assert_eq!(outer, Ok(1));
        assert!(!GUARDED.get());
    }
}
