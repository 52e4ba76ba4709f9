//! The closing table.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::Result;

/// What was checked, in the order in which it was.
#[derive(Debug, Default)]
pub(super) struct Report {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    what: &'static str,
    took: Duration,
    /// What was seen, or what went wrong.
    outcome: Result<String, String>,
}

impl Report {
    /// Plays one check, and notes what came of it. `explain` is asked for more when it fails, and then nothing further can be relied on.
    pub(super) async fn check(
        &mut self,
        what: &'static str,
        check: impl Future<Output = Result<String>>,
        explain: impl AsyncFnOnce() -> String,
    ) -> bool {
        println!("==> {what}");
        let started = Instant::now();
        let outcome = check.await.map_err(|error| format!("{error:#}"));
        if let Err(error) = &outcome {
            println!("    FAILED: {error}\n{}", explain().await);
        }
        let passed = outcome.is_ok();
        self.rows.push(Row { what, took: started.elapsed(), outcome });
        passed
    }

    /// Whether there are checks, and all have passed.
    pub(super) fn passed(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|row| row.outcome.is_ok())
    }

    /// The table, and the closing line.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{:<6} {:>7}  {:<44} {}", "", "seconds", "what was checked", "what was seen");
        for Row { what, took, outcome } in &self.rows {
            let (word, seen) = match outcome {
                Ok(seen) => ("ok", seen),
                Err(error) => ("FAILED", error),
            };
            let _ = write!(text, "\n{word:<6} {:>7.1}  {what:<44} {seen}", took.as_secs_f32());
        }
        let failed = self.rows.iter().filter(|row| row.outcome.is_err()).count();
        let _ = write!(text, "\n{} passed, {failed} failed", self.rows.len() - failed);
        text
    }
}
