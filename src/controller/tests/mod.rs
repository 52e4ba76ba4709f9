//! The whole controller against an API server in memory and an upstream on 127.0.0.1, in virtual time: what is written, what is not, and
//! when.

mod cluster;
mod connections;
mod handovers;
mod limits;
mod searches;
mod sets;
mod shared;
mod stage;
mod watches;
mod writes;
