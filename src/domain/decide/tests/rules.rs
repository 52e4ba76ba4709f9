//! The rules below the table, one test each.
