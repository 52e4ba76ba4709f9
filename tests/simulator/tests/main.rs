//! The simulator over real sockets, with a client that knows nothing of it.

// Helpers are no `#[test]` functions, but what they do is the same: fail where they stand.
#![allow(clippy::unwrap_used, clippy::panic)]

mod apis;
mod client;
mod faults;
mod scripts;
mod tls;
mod tokens;
