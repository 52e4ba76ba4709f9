//! What the dialects share: reading JSON, times, figures and errors that are never quite as documented.

pub mod any;
mod clock;
pub mod envelope;
pub mod failure;
pub mod list;
mod mend;
pub mod node;
pub mod path;
pub mod retry;
pub mod rules;
pub mod text;
pub mod time;
