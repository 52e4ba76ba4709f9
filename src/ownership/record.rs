//! What a Lease says, and how one is written: bucket Leases, and one of each replica by which the others know that it is there.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};

/// Set on all Leases of an installation: its name.
pub const LABEL: &str = "taskwatch.dev/leases";
/// How many buckets the writer of a Lease knows.
const BUCKETS: &str = "taskwatch.dev/buckets";

/// What a Lease is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A bucket.
    Bucket(u16),
    /// To show that a replica is there.
    Replica(Arc<str>),
}

/// A Lease as the API server has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Who holds it; none where it is free.
    pub holder: Option<Arc<str>>,
    /// The resource version: each renewal changes it.
    pub version: String,
    /// How often it has changed hands.
    pub transitions: i32,
    /// Since when the holder has it.
    pub acquired: Option<MicroTime>,
    /// How many buckets the holder knows; none where that cannot be read.
    pub buckets: Option<u16>,
}

/// The Leases of one installation, in the eyes of one replica.
#[derive(Clone, Debug)]
pub struct Form {
    /// The installation.
    pub name: Arc<str>,
    /// The replica.
    pub identity: Arc<str>,
    /// How many buckets there are.
    pub buckets: u16,
    /// How long a Lease lasts without being renewed.
    pub duration: Duration,
}

impl Form {
    /// The name of the Lease.
    #[must_use]
    pub fn name_of(&self, subject: &Subject) -> String {
        match subject {
            Subject::Bucket(number) => format!("{}-{number}", self.name),
            Subject::Replica(identity) => format!("{}-replica-{identity}", self.name),
        }
    }

    /// What a Lease is for; none where it is none of ours.
    #[must_use]
    pub fn subject(&self, lease: &Lease) -> Option<Subject> {
        let rest = lease.metadata.name.as_deref()?.strip_prefix(&*self.name)?.strip_prefix('-')?;
        match rest.strip_prefix("replica-") {
            Some(identity) => Some(Subject::Replica(identity.into())),
            None => rest.parse().ok().map(Subject::Bucket),
        }
    }

    /// What a Lease says.
    #[must_use]
    pub fn read(lease: &Lease) -> Record {
        let spec = lease.spec.as_ref();
        let buckets = lease.metadata.annotations.as_ref().and_then(|annotations| annotations.get(BUCKETS));
        Record {
            holder: spec
                .and_then(|spec| spec.holder_identity.as_deref())
                .filter(|holder| !holder.is_empty())
                .map(Arc::from),
            version: lease.metadata.resource_version.clone().unwrap_or_default(),
            transitions: spec.and_then(|spec| spec.lease_transitions).unwrap_or_default(),
            acquired: spec.and_then(|spec| spec.acquire_time.clone()),
            buckets: buckets.and_then(|count| count.parse().ok()),
        }
    }

    /// The Lease in which this replica takes `subject`, or has it for longer, where `old` is what it says now.
    #[must_use]
    pub fn held(&self, subject: &Subject, old: Option<&Record>, now: Timestamp) -> Lease {
        let is_ours = old.is_some_and(|old| old.holder.as_ref() == Some(&self.identity));
        let acquired = old.filter(|_| is_ours).and_then(|old| old.acquired.clone());
        self.lease(
            subject,
            old,
            LeaseSpec {
                holder_identity: Some(self.identity.to_string()),
                lease_duration_seconds: i32::try_from(self.duration.as_secs()).ok(),
                acquire_time: acquired.or(Some(MicroTime(now))),
                renew_time: Some(MicroTime(now)),
                lease_transitions: Some(old.map_or(0, |old| old.transitions + i32::from(!is_ours))),
                ..LeaseSpec::default()
            },
        )
    }

    /// The Lease in which this replica lets go of `subject`: it is free at once.
    #[must_use]
    pub fn free(&self, subject: &Subject, old: &Record) -> Lease {
        let spec = LeaseSpec { lease_transitions: Some(old.transitions), ..LeaseSpec::default() };
        self.lease(subject, Some(old), spec)
    }

    fn lease(&self, subject: &Subject, old: Option<&Record>, spec: LeaseSpec) -> Lease {
        Lease {
            metadata: ObjectMeta {
                name: Some(self.name_of(subject)),
                labels: Some([(LABEL.to_owned(), self.name.to_string())].into()),
                annotations: Some([(BUCKETS.to_owned(), self.buckets.to_string())].into()),
                resource_version: old.map(|old| old.version.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(spec),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(identity: &str) -> Form {
        Form { name: "taskwatch".into(), identity: identity.into(), buckets: 16, duration: Duration::from_secs(15) }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_lease_is_read_as_it_was_written() {
        let (one, two) = (form("one"), form("two"));
        for subject in [Subject::Bucket(0), Subject::Bucket(15), Subject::Replica("taskwatch-7d9f-x2".into())] {
            let lease = one.held(&subject, None, at(1));
            assert_eq!(two.subject(&lease), Some(subject.clone()));
            let record = Form::read(&lease);
            assert_eq!((record.holder.as_deref(), record.transitions, record.buckets), (Some("one"), 0, Some(16)));
            let renewed = one.held(&subject, Some(&record), at(6));
            let spec = renewed.spec.as_ref().unwrap();
            assert_eq!(
                (spec.acquire_time.clone(), spec.renew_time.clone()),
                (Some(MicroTime(at(1))), Some(MicroTime(at(6))))
            );
            let taken = Form::read(&two.held(&subject, Some(&record), at(30)));
            assert_eq!((taken.holder.as_deref(), taken.transitions), (Some("two"), 1));
            assert_eq!(taken.acquired, Some(MicroTime(at(30))));
            let free = Form::read(&two.free(&subject, &taken));
            assert_eq!((free.holder, free.transitions), (None, 1));
        }
    }

    #[test]
    fn others_leases_are_none_of_ours() {
        for name in ["other-0", "taskwatch", "taskwatch-", "taskwatch-x", "taskwatch-65536", "taskwatches-0"] {
            let lease = Lease { metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() }, spec: None };
            assert_eq!(form("one").subject(&lease), None, "{name}");
        }
    }
}
