//! Answers that are given later, by others than the thread that serves.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    sync::{Arc, Mutex},
};

use http::StatusCode;

use super::Answer;
use crate::sync::lock;

/// Wakes the thread that serves. Clones wake the same one.
#[derive(Clone, Debug)]
pub(super) struct Waker(Arc<UnixStream>);

/// What the thread that serves waits by.
#[derive(Debug)]
pub(super) struct Alarm(UnixStream);

impl Waker {
    /// A waker, and what it wakes by.
    ///
    /// # Errors
    /// There are no more file descriptors.
    pub(super) fn new() -> io::Result<(Self, Alarm)> {
        let (waker, alarm) = UnixStream::pair()?;
        waker.set_nonblocking(true)?;
        alarm.set_nonblocking(true)?;
        Ok((Self(Arc::new(waker)), Alarm(alarm)))
    }

    fn wake(&self) {
        // Where there is no room for one more, it wakes already.
        let _ = (&*self.0).write(&[0]);
    }
}

impl Alarm {
    /// What is to be polled.
    pub(super) fn stream(&self) -> &UnixStream {
        &self.0
    }

    /// Waits for the next one from now on.
    pub(super) fn reset(&self) {
        while (&self.0).read(&mut [0; 64]).is_ok_and(|count| count > 0) {}
    }
}

/// An answer that is to be given; one that is dropped says that there is none.
#[derive(Debug)]
pub(in crate::ops) struct Promise {
    answer: Arc<Mutex<Option<Answer>>>,
    waker: Waker,
}

/// An answer that is waited for.
#[derive(Debug)]
pub(in crate::ops) struct Pending(Arc<Mutex<Option<Answer>>>);

impl Promise {
    pub(super) fn new(waker: Waker) -> (Self, Pending) {
        let answer = Arc::default();
        (Self { answer: Arc::clone(&answer), waker }, Pending(answer))
    }

    /// Whether somebody still waits for it.
    #[cfg(test)]
    pub(super) fn is_awaited(&self) -> bool {
        Arc::strong_count(&self.answer) > 1
    }

    /// Gives it.
    pub(in crate::ops) fn keep(self, answer: Answer) {
        *lock(&self.answer) = Some(answer);
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        let none = || Answer::text(StatusCode::SERVICE_UNAVAILABLE, "the operator is stopping\n");
        lock(&self.answer).get_or_insert_with(none);
        self.waker.wake();
    }
}

impl Pending {
    /// Whether it has been given.
    pub(super) fn is_given(&self) -> bool {
        lock(&self.0).is_some()
    }

    /// It, if it has been given.
    pub(super) fn take(&self) -> Option<Answer> {
        lock(&self.0).take()
    }
}
