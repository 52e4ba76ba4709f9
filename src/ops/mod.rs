//! What every service has.
