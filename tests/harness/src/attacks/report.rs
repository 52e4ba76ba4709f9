//! The table of a run.

use std::fmt::Write as _;

use super::canary::Lags;

/// What came of one attack.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// The finding.
    pub finding: String,
    /// The attack.
    pub name: String,
    /// What was done.
    pub what: String,
    /// How late the canary was, in milliseconds.
    pub(super) lags: Lags,
    /// Resident memory in bytes: at most, and afterwards.
    pub(super) peak: u64,
    pub(super) after: u64,
    /// How the operator ended, or was late for its liveness probe; nothing when it passed.
    pub down: Vec<String>,
    /// What else is wrong; nothing when it passed.
    pub faults: Vec<String>,
}

/// All rows.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// In the order in which they were tried.
    pub rows: Vec<Row>,
    /// Attacks that could not be tried here, each with why.
    pub untried: Vec<String>,
    /// How it was without an attack.
    pub(super) quiet: Row,
}

impl Row {
    /// Whether nothing is wrong.
    fn passed(&self) -> bool {
        self.down.is_empty() && self.faults.is_empty()
    }

    /// Whether a second try is to tell if it was the attack or the machine.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.down.is_empty() && !self.faults.is_empty()
    }

    /// Its line of the table, and a line for each fault.
    #[must_use]
    pub fn text(&self) -> String {
        let mib = |bytes: u64| bytes >> 20;
        let mut text = format!(
            "{:<6} {:<4} {:<22} {:>6} {:>6} {:>6} {:>5} {:>5}  {}",
            if self.passed() { "ok" } else { "FAILED" },
            self.finding,
            self.name,
            self.lags.poll.ms,
            self.lags.write.ms,
            self.lags.server,
            mib(self.peak),
            mib(self.after),
            self.what
        );
        for fault in self.down.iter().chain(&self.faults).take(12) {
            let _ = write!(text, "\n       - {}", fault.chars().take(600).collect::<String>());
        }
        let more = (self.down.len() + self.faults.len()).saturating_sub(12);
        if more > 0 {
            let _ = write!(text, "\n       - and {more} more");
        }
        text
    }
}

/// The head of the table.
pub(super) fn head() -> String {
    format!(
        "{:<6} {:<4} {:<22} {:>6} {:>6} {:>6} {:>5} {:>5}  {}\n{:<6} {:<4} {:<22} {:>6} {:>6} {:>6} {:>5} {:>5}",
        "",
        "",
        "attack",
        "poll",
        "write",
        "server",
        "peak",
        "after",
        "what is done",
        "",
        "",
        "",
        "p99 ms",
        "p99 ms",
        "p99 ms",
        "MiB",
        "MiB"
    )
}

impl Report {
    /// Whether every attack that was tried passed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.rows.iter().all(Row::passed) && self.untried.is_empty()
    }

    /// The table by finding, and the closing line.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = head();
        let _ = write!(text, "\n{}", self.quiet.text());
        for row in &self.rows {
            let _ = write!(text, "\n{}", row.text());
        }
        for line in &self.untried {
            let _ = write!(text, "\nNOT TRIED {line}");
        }
        let failed = self.rows.iter().filter(|row| !row.passed()).count();
        let untried =
            if self.untried.is_empty() { String::new() } else { format!(", {} not tried", self.untried.len()) };
        let _ = write!(text, "\n{} passed, {failed} failed{untried}", self.rows.len() - failed);
        text
    }
}
