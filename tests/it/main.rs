//! Integration and end-to-end tests: a real API server, the real binary, the simulator as the upstream.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // they are how a test fails

mod access;
mod argocd;
mod auth;
mod chart;
mod claims;
mod cluster;
mod crds;
mod described;
mod gates;
mod helm;
mod identifiers;
mod keystone;
mod layers;
mod many;
mod monitoring;
mod objects;
mod pages;
mod poisoned;
mod policies;
mod process;
mod proxy;
mod references;
mod replicas;
mod restored;
mod rights;
mod set_objects;
mod sets;
mod stage;
mod traces;
mod trouble;
mod unreadable;
mod waiting;
mod watch;
