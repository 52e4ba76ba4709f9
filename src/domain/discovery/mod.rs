//! Which tasks of a scope a `TaskWatchSet` watches, and what it says of them. Pure.
//!
//! | module | what it decides |
//! |---|---|
//! | [`catalogue`] | what is kept of the tasks that a list has shown (with `texts`: what they have in common) |
//! | [`filter`] | which of them match (with `glob`: patterns) |
//! | [`latest`] | which of them a `TaskWatch` is of that asks for the latest |
//! | [`select`] | which of those are watched, and whose `TaskWatch` is created or deleted |
//! | [`child`] | what such a `TaskWatch` is called and made of |
//! | [`status`] | what the set says |

pub mod catalogue;
pub mod child;
pub mod filter;
mod glob;
pub mod latest;
pub mod select;
pub mod status;
mod texts;
