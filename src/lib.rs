//! TaskWatch.
