//! A panic over one task, planted to prove that others do not notice: in debug builds and with the feature `planted-panic`, never in a
//! binary that users get.

/// Panics where `id` is that of the environment variable `TASKWATCH_TEST_PANIC_ID`.
#[cfg(any(debug_assertions, feature = "planted-panic"))]
pub(super) fn strike(id: &str) {
    use std::sync::LazyLock;
    static ID: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("TASKWATCH_TEST_PANIC_ID").ok());
    assert!(ID.as_deref() != Some(id), "planted");
}

/// Nothing is planted.
#[cfg(not(any(debug_assertions, feature = "planted-panic")))]
pub(super) fn strike(_: &str) {}
