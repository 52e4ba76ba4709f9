//! Integration tests.

mod crds;
mod keystone;
