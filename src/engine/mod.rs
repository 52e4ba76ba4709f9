//! The polling core.
