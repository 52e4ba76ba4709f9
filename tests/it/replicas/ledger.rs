//! Who held which bucket when, as the Leases were written; and whether what a replica did falls into the time in which it held the bucket
//! of what it did that to. All times are microseconds of this machine's clock.

use std::{collections::BTreeMap, time::Duration};

/// So long after a bucket was let go of, and until another one takes it, what was sent before may still arrive.
const ON_THE_WAY: i64 = 200_000;

/// A write of a bucket's Lease that the API server took.
#[derive(Clone, Debug)]
pub struct LeaseWrite {
    pub at: i64,
    /// Who has sent it.
    pub by: String,
    pub bucket: u16,
    /// Whom it names; none where it lets go.
    pub holder: Option<String>,
}

/// Something that only the owner of a bucket may do, when it arrived.
#[derive(Clone, Debug)]
pub struct Act {
    pub at: i64,
    pub by: String,
    pub bucket: u16,
    pub what: String,
}

/// The time in which a replica held a bucket, without a break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenure {
    pub holder: String,
    /// The first write that named it arrived.
    pub from: i64,
    /// The last one did.
    pub renewed: i64,
    /// The duration of the Lease after the last one; where somebody else took it before, then; where it was let go of, a moment later.
    pub until: i64,
}

/// The tenures of each bucket, in their order.
#[derive(Debug)]
pub struct Ledger(BTreeMap<u16, Vec<Tenure>>);

impl Ledger {
    /// By the writes in their order.
    pub fn new(writes: &[LeaseWrite], duration: Duration) -> Self {
        let duration = i64::try_from(duration.as_micros()).unwrap();
        let mut all: BTreeMap<u16, Vec<Tenure>> = BTreeMap::new();
        for LeaseWrite { at, bucket, holder, .. } in writes {
            let (at, tenures) = (*at, all.entry(*bucket).or_default());
            let last = tenures.last_mut().filter(|last| at <= last.until);
            match (last, holder) {
                (Some(last), Some(holder)) if last.holder == *holder => {
                    (last.renewed, last.until) = (at, at + duration);
                    continue;
                }
                (Some(last), Some(_)) => last.until = at,
                (Some(last), None) => last.until = last.until.min(at + ON_THE_WAY),
                (None, _) => {}
            }
            let tenure =
                |holder: &String| Tenure { holder: holder.clone(), from: at, renewed: at, until: at + duration };
            tenures.extend(holder.as_ref().map(tenure));
        }
        Self(all)
    }

    /// The tenures of a bucket.
    pub fn of(&self, bucket: u16) -> &[Tenure] {
        self.0.get(&bucket).map_or(&[], Vec::as_slice)
    }

    /// The longest time from the last renewal of one to when the next has a bucket.
    pub fn longest_vacancy(&self, bucket: u16) -> Duration {
        let times = self.of(bucket).windows(2).map(|pair| pair[1].from - pair[0].renewed);
        Duration::from_micros(times.max().unwrap_or_default().try_into().unwrap())
    }

    /// What was done by somebody who did not hold the bucket then.
    pub fn faults(&self, acts: &[Act]) -> Vec<String> {
        let is_held = |act: &Act| {
            let mut tenures = self.of(act.bucket).iter();
            tenures.any(|tenure| tenure.holder == act.by && (tenure.from..=tenure.until).contains(&act.at))
        };
        let told = |act: &Act| {
            let near = self.of(act.bucket).iter().filter(|tenure| (tenure.from - act.at).abs() < 60_000_000);
            format!("{act:?}: not its own then, but of {near:?}")
        };
        acts.iter().filter(|act| !is_held(act)).map(told).collect()
    }
}

/// Leases that were written in somebody else's name, or let go of by somebody who did not hold them.
pub fn forged(writes: &[LeaseWrite]) -> Vec<String> {
    let mut holders = BTreeMap::new();
    let mut forged = Vec::new();
    for write in writes {
        let holder = holders.insert(write.bucket, write.holder.clone()).flatten();
        if write.holder.as_ref().or(holder.as_ref()) != Some(&write.by) {
            forged.push(format!("{write:?}, when it was held by {holder:?}"));
        }
    }
    forged
}

const SECOND: i64 = 1_000_000;

fn lease(at: i64, by: &str, holder: Option<&str>) -> LeaseWrite {
    LeaseWrite { at: at * SECOND, by: by.to_owned(), bucket: 0, holder: holder.map(str::to_owned) }
}

fn act(at: i64, by: &str) -> Act {
    Act { at: at * SECOND, by: by.to_owned(), bucket: 0, what: "a write".to_owned() }
}

#[test]
fn who_acts_without_holding_the_bucket_is_found() {
    let writes = [
        lease(10, "one", Some("one")),
        lease(12, "one", Some("one")),
        // Expired at 17.
        lease(20, "two", Some("two")),
        lease(23, "two", None),
        lease(24, "one", Some("one")),
        lease(30, "one", Some("one")),
    ];
    let ledger = Ledger::new(&writes, Duration::from_secs(5));
    let times: Vec<_> = ledger
        .of(0)
        .iter()
        .map(|t| (t.holder.as_str(), t.from / SECOND, t.renewed / SECOND, t.until / SECOND))
        .collect();
    assert_eq!(ledger.longest_vacancy(0), Duration::from_secs(8));
    assert_eq!(times, [("one", 10, 12, 17), ("two", 20, 20, 23), ("one", 24, 24, 29), ("one", 30, 30, 35)]);
    let good = [(10, "one"), (17, "one"), (20, "two"), (23, "two"), (24, "one"), (35, "one")];
    assert_eq!(ledger.faults(&good.map(|(at, by)| act(at, by))), [""; 0]);
    let bad = [(9, "one"), (18, "one"), (20, "one"), (19, "two"), (24, "two"), (29, "two"), (36, "one"), (12, "other")];
    assert_eq!(ledger.faults(&bad.map(|(at, by)| act(at, by))).len(), bad.len());
    let elsewhere = Act { bucket: 1, ..act(12, "one") };
    assert_eq!(ledger.faults(&[elsewhere]).len(), 1);
    assert_eq!(forged(&writes), [""; 0]);
    for bad in [lease(31, "two", Some("one")), lease(31, "two", None)] {
        assert_eq!(forged(&[&writes[..], &[bad]].concat()).len(), 1);
    }
}
