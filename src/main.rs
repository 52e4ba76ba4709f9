//! TaskWatch.
fn main() {}
