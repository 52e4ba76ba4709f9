//! Whether a connection can be used: the one answer for the connection's own status and for those of the watches that name it.

/// Whether a connection can be used, and why not. What a usable one gives is the asker's affair: `Ok` holds that elsewhere.
pub type Availability = Result<(), Unavailable>;

/// Why a connection cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable {
    /// For programs.
    pub reason: Reason,
    /// For people: what is so, and what to do about it.
    pub message: String,
}

/// The reason of a condition that says that a connection cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// There is no such connection (yet), as far as the watch may know.
    ConnectionNotFound,
    /// It does not serve the namespace or the scope of the watch.
    ConnectionNotAllowed,
    /// Its Secret, a key of it, or its certificates are not there (yet).
    SecretNotFound,
    /// The watch or the connection asks for what cannot be.
    InvalidSpec,
    /// The namespace has more watches or connections than are served, and this is one of the newest.
    LimitExceeded,
}

/// What is to be expected of it: the abnormal condition that goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// What is missing may come by itself, as where all is applied at once: Reconciling.
    MayPass,
    /// Somebody has to change something: Stalled.
    NeedsAction,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::ConnectionNotFound,
        Self::ConnectionNotAllowed,
        Self::SecretNotFound,
        Self::InvalidSpec,
        Self::LimitExceeded,
    ];

    const fn row(self) -> (&'static str, Outlook) {
        match self {
            Self::ConnectionNotFound => ("ConnectionNotFound", Outlook::MayPass),
            Self::ConnectionNotAllowed => ("ConnectionNotAllowed", Outlook::NeedsAction),
            Self::SecretNotFound => ("SecretNotFound", Outlook::MayPass),
            Self::InvalidSpec => ("InvalidSpec", Outlook::NeedsAction),
            Self::LimitExceeded => ("LimitExceeded", Outlook::NeedsAction),
        }
    }

    /// The CamelCase word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.row().0
    }

    /// Whether it may pass by itself.
    #[must_use]
    pub const fn outlook(self) -> Outlook {
        self.row().1
    }

    /// The reason that a condition gives by its word; none where it gives another kind of reason.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }
}

impl Unavailable {
    /// For this reason.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn every_reason_is_read_back_from_its_word() {
        for (place, reason) in Reason::ALL.into_iter().enumerate() {
            // A new member does not compile here: it belongs into `ALL`, too.
            let expected = match reason {
                Reason::ConnectionNotFound => 0,
                Reason::ConnectionNotAllowed => 1,
                Reason::SecretNotFound => 2,
                Reason::InvalidSpec => 3,
                Reason::LimitExceeded => 4,
            };
            assert_eq!((place, Reason::of_word(reason.as_str())), (expected, Some(reason)));
        }
        assert_eq!(Reason::of_word("UpstreamUnavailable"), None);
    }
}
