//! Pure decisions, without IO; the time is always a parameter.

pub mod advice;
pub mod availability;
pub mod backoff;
pub mod cadence;
pub mod conditions;
pub mod connection;
pub mod decide;
pub mod discovery;
pub mod failure;
pub mod outputs;
pub mod redact;
pub mod stored;
pub mod subtasks;
pub mod target;
pub mod task;
pub mod text;

#[cfg(test)]
mod verdicts;
