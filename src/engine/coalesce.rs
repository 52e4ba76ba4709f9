//! Whether one list or many single requests serve a scope: chosen by their measured cost, with hysteresis.

use std::time::Duration;

use tokio::time::Instant;

/// How the tasks of a scope are polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// One list serves all.
    List,
    /// A request for each task.
    Get,
}

impl Mode {
    /// The word of `status.mode` of a connection.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::List => "List",
            Self::Get => "Get",
        }
    }
}

/// What the connection's `poll.mode` asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ModeChoice {
    /// Whichever costs less.
    #[default]
    Auto,
    /// Lists, where the upstream has them.
    List,
    /// Single requests.
    Get,
}

/// So many bytes of a body cost as much as a request of their own.
const BYTES_PER_REQUEST: f64 = 32.0 * 1024.0;
/// The other way must be this much cheaper before it is taken.
const HYSTERESIS: f64 = 1.5;
/// How long a list that failed by its nature (too large, refused) is not tried again.
const UNUSABLE: Duration = Duration::from_mins(10);
/// Weight of a new measurement against the old ones.
const WEIGHT: f64 = 0.3;

/// The measured costs of a scope, in requests; a body counts by its size, too.
#[derive(Debug)]
pub struct Costs {
    list: f64,
    get: f64,
    unusable_until: Option<Instant>,
}

impl Costs {
    /// Guesses, until measured: a list of about a hundred tasks; `requests_per_get` as the provider needs.
    #[must_use]
    pub fn new(requests_per_get: u32) -> Self {
        Self { list: 3.0, get: f64::from(requests_per_get), unusable_until: None }
    }

    /// A whole list took so many pages and bytes.
    pub fn list_took(&mut self, pages: u32, bytes: usize) {
        // The list's size is a fact of now, not a mean: a grown history counts at once.
        self.list = cost(pages, bytes);
        self.unusable_until = None;
    }

    /// One poll of a task took so many requests and bytes.
    pub fn get_took(&mut self, requests: u32, bytes: usize) {
        self.get += WEIGHT * (cost(requests, bytes) - self.get);
    }

    /// The list failed by its nature.
    pub fn list_is_unusable(&mut self, now: Instant) {
        self.unusable_until = Some(now + UNUSABLE);
    }

    /// Whether the list has not failed by its nature of late.
    #[must_use]
    pub fn list_is_usable(&self, now: Instant) -> bool {
        self.unusable_until.is_none_or(|until| until <= now)
    }

    /// How to poll `watched` tasks from now on.
    #[must_use]
    pub fn choose(&self, current: Mode, watched: usize, now: Instant) -> Mode {
        if !self.list_is_usable(now) {
            return Mode::Get;
        }
        #[allow(clippy::cast_precision_loss, reason = "a count of tasks")]
        let gets = self.get * watched as f64;
        match current {
            Mode::Get if gets > self.list * HYSTERESIS => Mode::List,
            Mode::List if self.list > gets * HYSTERESIS => Mode::Get,
            mode => mode,
        }
    }
}

fn cost(requests: u32, bytes: usize) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "a count of bytes under a cap")]
    let bytes = bytes as f64;
    f64::from(requests) + bytes / BYTES_PER_REQUEST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_few_tasks_are_asked_for_singly_and_many_by_a_list() {
        let now = Instant::now();
        let costs = Costs::new(1);
        assert_eq!(costs.choose(Mode::Get, 1, now), Mode::Get);
        assert_eq!(costs.choose(Mode::Get, 4, now), Mode::Get);
        assert_eq!(costs.choose(Mode::Get, 5, now), Mode::List);
        assert_eq!(costs.choose(Mode::List, 2, now), Mode::List, "hysteresis");
        assert_eq!(costs.choose(Mode::List, 1, now), Mode::Get);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_history_makes_single_requests_cheaper() {
        let now = Instant::now();
        let mut costs = Costs::new(1);
        costs.list_took(10, 15 << 20);
        assert_eq!(costs.choose(Mode::List, 100, now), Mode::Get);
        assert_eq!(costs.choose(Mode::Get, 1000, now), Mode::List);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unusable_list_is_tried_again_later() {
        let now = Instant::now();
        let mut costs = Costs::new(1);
        costs.list_is_unusable(now);
        assert_eq!(costs.choose(Mode::List, 1000, now), Mode::Get);
        assert_eq!(costs.choose(Mode::Get, 1000, now + UNUSABLE), Mode::List);
    }
}
