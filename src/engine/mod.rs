//! The polling core.

pub mod egress;
pub mod transport;
