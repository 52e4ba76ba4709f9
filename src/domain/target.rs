//! Which task a watch is of: it is named, or it is to be found, by an identifier that somebody puts into an object or by what the task is
//! like. Once it is found it is fixed.

use super::availability::{Reason, Unavailable};
use crate::api::{ID_FROM, KeySource};

/// Which task it is, as far as that is known.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// The one of this identifier.
    Known(&'a str),
    /// That is not known yet.
    Sought(&'a Sought),
}

/// Why it is not known yet which task it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sought {
    /// Its identifier is not there; and where it is awaited.
    Identifier(String),
    /// No task matches; and what is awaited.
    Match(String),
    /// There are no lists to find it in; and what to do.
    Unlisted(String),
    /// What is there is no identifier, until somebody changes it.
    Unusable(Unavailable),
}

/// Why there is no text where an identifier is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absent {
    /// The object is not there; or it is a Secret that may not be used for this: whoever is told must not learn which.
    Object,
    /// It has no such key.
    Key,
    /// It may not be read.
    Forbidden,
}

impl Sought {
    /// There is no identifier yet where it is to be, in this namespace.
    #[must_use]
    pub fn absent(why: &Absent, source: KeySource<'_>, namespace: &str) -> Self {
        let (kind, name, key) = (source.kind(), &source.reference().name, &source.reference().key);
        let label = match source {
            KeySource::ConfigMap(_) => String::new(),
            KeySource::Secret(_) => format!(" and the label {ID_FROM}: \"true\""),
        };
        let so_far = match why {
            Absent::Object => format!("there is no {kind} {name} with the key {key}{label} yet"),
            Absent::Key => format!("{kind} {name} has no key {key} yet"),
            Absent::Forbidden => format!(
                "the operator may not read {kind} {name}, which is to have the key {key}: bind the ClusterRole taskwatch-secret-reader to \
                 its service account in namespace {namespace}"
            ),
        };
        Self::Identifier(format!("Waiting for the identifier of the task: {so_far}."))
    }

    /// What is there is no identifier: what is wrong with it. Of a Secret, that must not tell what is in it.
    #[must_use]
    pub fn refused(source: KeySource<'_>, refusal: &str) -> Self {
        let (kind, name) = (source.kind(), &source.reference().name);
        let message = format!("{refusal}. Nothing is sent: correct {kind} {name}, which is read again");
        Self::Unusable(Unavailable::new(Reason::InvalidSpec, message))
    }
}
