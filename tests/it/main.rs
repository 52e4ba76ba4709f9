//! Integration tests.

mod crds;
mod keystone;
mod unreadable;
