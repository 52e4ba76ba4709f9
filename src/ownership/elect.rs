//! Which buckets a replica takes, renews and lets go of: decided by what Leases are seen to say, and since when. Other machines' clocks do
//! not count: a Lease is over when it has not been seen to change for its duration, by this machine's clock.
//!
//! The replicas that are seen divide the buckets evenly, by rank of their names: all of them come to the same division. Who has more than
//! its part lets go of the rest, who has less takes what is free. With one bucket this is plain leader election.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::record::{Record, Subject};
use crate::hash::fnv1a;

/// What was taken is looked at again after so long.
const CONFIRM: Duration = Duration::from_millis(50);

/// How long everything takes, by the duration of a Lease.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    duration: Duration,
}

impl Times {
    /// With Leases of this duration.
    #[must_use]
    pub fn new(duration: Duration) -> Self {
        Self { duration }
    }

    /// The duration of a Lease.
    #[must_use]
    pub fn duration(self) -> Duration {
        self.duration
    }

    /// A Lease is renewed so often.
    #[must_use]
    pub fn renewed_every(self) -> Duration {
        self.duration / 3
    }

    /// Who cannot renew a Lease acts upon it no longer than this after the last renewal was sent: well before anybody else does.
    #[must_use]
    pub fn held_for(self) -> Duration {
        self.duration * 2 / 3
    }

    /// The Leases are looked at so often.
    #[must_use]
    pub fn looked_at_every(self) -> Duration {
        self.duration / 15
    }

    /// A Lease that has not been seen to change for this long is free. With the time that its last renewal went unnoticed this makes
    /// one duration.
    fn free_after(self) -> Duration {
        self.looked_at_every() * 14
    }

    /// A replica that has not shown itself for so long will not come back.
    fn forgotten_after(self) -> Duration {
        self.duration * 20
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Move {
    /// Take a Lease, or have it for longer.
    Hold(Subject),
    /// Let go of a bucket.
    Free(u16),
    /// Delete the Lease of a replica that is no more.
    Forget(Arc<str>),
}

/// Who says how many buckets there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Agreement {
    /// Nobody, so far.
    None,
    /// Somebody who thinks as this replica does.
    Ours,
    /// Somebody who does not.
    Other,
}

/// A Lease, as it was seen.
#[derive(Clone, Debug)]
struct Seen {
    record: Record,
    /// Since when it says this.
    since: Instant,
    /// When the renewal was sent that made it say this, where this process did.
    sent: Option<Instant>,
    /// It was this replica's in a look that came after it was taken, and nobody divided the connections otherwise then. Of two who take
    /// buckets by different divisions at the same time, at least one sees the other in that look.
    is_confirmed: bool,
}

/// One replica among others.
#[derive(Debug)]
pub struct Elector {
    me: Arc<str>,
    times: Times,
    count: u16,
    /// By number; where there is no such Lease, none.
    buckets: BTreeMap<u16, Seen>,
    replicas: BTreeMap<Arc<str>, Seen>,
    /// When the Leases were last looked at.
    looked: Option<Instant>,
}

impl Elector {
    /// A replica that has seen nothing yet, and knows of so many buckets.
    #[must_use]
    pub fn new(me: Arc<str>, count: u16, times: Times) -> Self {
        Self { me, times, count, buckets: BTreeMap::new(), replicas: BTreeMap::new(), looked: None }
    }

    /// How many buckets there are.
    #[must_use]
    pub fn count(&self) -> u16 {
        self.count
    }

    /// Takes in all Leases that there are.
    pub fn see(&mut self, leases: impl IntoIterator<Item = (Subject, Record)>, now: Instant) {
        let (mut buckets, mut replicas) = (BTreeMap::new(), BTreeMap::new());
        for (subject, record) in leases {
            match subject {
                Subject::Bucket(number) => {
                    buckets.insert(number, seen(self.buckets.remove(&number), record, now));
                }
                Subject::Replica(identity) => {
                    let old = self.replicas.remove(&identity);
                    replicas.insert(identity, seen(old, record, now));
                }
            }
        }
        (self.buckets, self.replicas, self.looked) = (buckets, replicas, Some(now));
        if !self.is_counted_otherwise(now) {
            let me = &self.me;
            let mine =
                self.buckets.values_mut().filter(|seen| seen.sent.is_some() && seen.record.holder.as_ref() == Some(me));
            mine.for_each(|seen| seen.is_confirmed = true);
        }
    }

    /// A Lease was written by this process, by a request that was sent then, and says this.
    pub fn wrote(&mut self, subject: &Subject, record: Record, sent: Instant) {
        let is_ours = record.holder.as_ref() == Some(&self.me);
        let mut seen = Seen { record, since: sent, sent: is_ours.then_some(sent), is_confirmed: false };
        match subject {
            Subject::Bucket(number) => {
                // One that had lapsed is as one that is taken: others may have begun, and divide the connections otherwise.
                seen.is_confirmed = is_ours && self.held_until(*number).is_some_and(|until| sent < until);
                self.buckets.insert(*number, seen);
            }
            Subject::Replica(identity) => drop(self.replicas.insert(Arc::clone(identity), seen)),
        }
    }

    /// What a Lease says; none where there is none.
    #[must_use]
    pub fn record(&self, subject: &Subject) -> Option<&Record> {
        let seen = match subject {
            Subject::Bucket(number) => self.buckets.get(number),
            Subject::Replica(identity) => self.replicas.get(identity),
        };
        seen.map(|seen| &seen.record)
    }

    /// Whether a bucket's Lease names this replica.
    #[must_use]
    pub fn is_mine(&self, number: u16) -> bool {
        self.buckets.get(&number).is_some_and(|seen| self.names_me(seen))
    }

    /// Until when this replica may act upon a bucket; none where it may not.
    #[must_use]
    pub fn held_until(&self, number: u16) -> Option<Instant> {
        let seen = self.buckets.get(&number).filter(|seen| self.names_me(seen) && seen.is_confirmed)?;
        Some(seen.sent? + self.times.held_for())
    }

    /// What is to be done now.
    #[must_use]
    pub fn moves(&self, now: Instant) -> Vec<Move> {
        let mut moves = Vec::new();
        if self.is_shared() && self.replicas.get(&self.me).is_none_or(|seen| self.is_to_be_renewed(seen, now)) {
            moves.push(Move::Hold(Subject::Replica(Arc::clone(&self.me))));
        }
        let mine: Vec<u16> = (0..self.count).filter(|number| self.is_mine(*number)).collect();
        let agreement = self.agreement(now);
        let part = if agreement == Agreement::Other { 0 } else { self.part(now) };
        let (kept, excess) = mine.split_at(part.min(mine.len()));
        moves.extend(excess.iter().map(|number| Move::Free(*number)));
        let due = kept.iter().filter(|number| self.is_to_be_renewed(&self.buckets[*number], now));
        moves.extend(due.map(|number| Move::Hold(Subject::Bucket(*number))));
        if !self.is_counted_otherwise(now) {
            let may = |number: &u16| *number == 0 || agreement == Agreement::Ours;
            let taken = self.free(now).filter(may).take(part - kept.len());
            moves.extend(taken.map(|number| Move::Hold(Subject::Bucket(number))));
        }
        if kept.contains(&0) {
            let gone = self.replicas.iter().filter(|(_, seen)| now - seen.since >= self.times.forgotten_after());
            moves.extend(gone.map(|(identity, _)| Move::Forget(Arc::clone(identity))));
        }
        moves
    }

    /// When to look at the Leases again: at once after something was taken, others' every so often, one's own when they are to be renewed, and each when it would be free.
    #[must_use]
    pub fn look_at(&self, now: Instant) -> Instant {
        let is_new = |seen: &Seen| self.names_me(seen) && !seen.is_confirmed && seen.sent >= self.looked;
        if self.buckets.values().any(is_new) {
            return now + CONFIRM;
        }
        let has_all = (0..self.count).all(|number| self.is_mine(number));
        let every =
            if has_all && !self.is_shared() { self.times.renewed_every() } else { self.times.looked_at_every() };
        let expiries =
            self.buckets.values().filter(|seen| !self.names_me(seen)).map(|seen| seen.since + self.times.free_after());
        expiries.filter(|at| *at > now).chain([now + every]).min().unwrap_or(now + every)
    }

    /// Whether there is anything to divide.
    fn is_shared(&self) -> bool {
        self.count > 1
    }

    /// How many buckets are this replica's part.
    fn part(&self, now: Instant) -> usize {
        let count = usize::from(self.count);
        if !self.is_shared() {
            return count;
        }
        let live: Vec<&Arc<str>> = self.live(now).collect();
        let rank = live.iter().filter(|identity| ***identity < self.me).count();
        let replicas = live.iter().filter(|identity| ***identity != self.me).count() + 1;
        count / replicas + usize::from(rank < count % replicas)
    }

    /// The replicas that divide the same number of buckets.
    fn live(&self, now: Instant) -> impl Iterator<Item = &Arc<str>> {
        let is_live =
            move |seen: &Seen| now - seen.since < self.times.free_after() && seen.record.buckets == Some(self.count);
        self.replicas.iter().filter(move |(_, seen)| is_live(seen)).map(|(identity, _)| identity)
    }

    /// The buckets that nobody holds. Each replica begins elsewhere, so that they do not all reach for the same ones.
    fn free(&self, now: Instant) -> impl Iterator<Item = u16> {
        let begin = u16::try_from(fnv1a(&self.me) % u64::from(self.count)).unwrap_or(0);
        let numbers = (begin..self.count).chain(0..begin);
        numbers.filter(move |number| {
            self.buckets.get(number).is_none_or(|seen| !self.names_me(seen) && self.is_free(seen, now))
        })
    }

    fn is_free(&self, seen: &Seen, now: Instant) -> bool {
        seen.record.holder.is_none() || now - seen.since >= self.times.free_after()
    }

    /// How many buckets there are is what the holder of the first one says: during an upgrade that changes it there are two opinions.
    fn agreement(&self, now: Instant) -> Agreement {
        match self.buckets.get(&0).filter(|seen| self.names_me(seen) || !self.is_free(seen, now)) {
            None => Agreement::None,
            Some(seen) if seen.record.buckets == Some(self.count) => Agreement::Ours,
            Some(_) => Agreement::Other,
        }
    }

    /// Whether somebody who is at work divides the connections into another number of buckets.
    fn is_counted_otherwise(&self, now: Instant) -> bool {
        let mut at_work = self.buckets.values().filter(|seen| !self.names_me(seen) && !self.is_free(seen, now));
        at_work.any(|seen| seen.record.buckets != Some(self.count))
    }

    fn names_me(&self, seen: &Seen) -> bool {
        seen.record.holder.as_ref() == Some(&self.me)
    }

    fn is_to_be_renewed(&self, seen: &Seen, now: Instant) -> bool {
        seen.sent.is_none_or(|sent| now - sent >= self.times.renewed_every())
    }
}

/// What is known of a Lease that says this.
fn seen(old: Option<Seen>, record: Record, now: Instant) -> Seen {
    match old {
        Some(old) if old.record.version == record.version => old,
        _ => Seen { record, since: now, sent: None, is_confirmed: false },
    }
}

#[cfg(test)]
mod tests;
