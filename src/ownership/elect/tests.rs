//! Replicas that share a table of Leases with optimistic locking, as the API server keeps it, and that are slow, stopped, killed and
//! started anew at random.

use proptest::{collection::vec, prelude::*};

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const DURATION: Duration = Duration::from_secs(15);

/// The API server's Leases.
#[derive(Default)]
struct Table {
    leases: BTreeMap<Subject, Record>,
    version: u64,
}

impl Table {
    /// Writes what a replica means to, if the Lease is as it knows it. Returns what it says then.
    fn write(
        &mut self,
        subject: &Subject,
        known: Option<&Record>,
        holder: Option<Arc<str>>,
        count: u16,
    ) -> Option<Record> {
        let found = self.leases.get(subject).map(|record| &record.version);
        if found != known.map(|known| &known.version) {
            return None;
        }
        self.version += 1;
        let version = self.version.to_string();
        let record = Record { holder, version, transitions: 0, acquired: None, buckets: Some(count) };
        self.leases.insert(subject.clone(), record.clone());
        Some(record)
    }
}

/// A process.
struct Replica {
    elector: Elector,
    /// What it has resolved to do, and when.
    resolved: Option<(Vec<Move>, Instant)>,
    is_running: bool,
}

impl Replica {
    fn new(number: usize, count: u16) -> Self {
        let elector = Elector::new(format!("replica-{number}").into(), count, Times::new(DURATION));
        Self { elector, resolved: None, is_running: true }
    }

    fn resolve(&mut self, table: &Table, now: Instant) {
        self.elector.see(table.leases.iter().map(|(subject, record)| (subject.clone(), record.clone())), now);
        self.resolved = Some((self.elector.moves(now), now));
    }

    fn act(&mut self, table: &mut Table) {
        let Some((moves, sent)) = self.resolved.take() else { return };
        for act in moves {
            let (subject, holder) = match act {
                Move::Hold(subject) => (subject, Some(Arc::clone(&self.elector.me))),
                Move::Free(number) => (Subject::Bucket(number), None),
                Move::Forget(identity) => {
                    table.leases.remove(&Subject::Replica(identity));
                    continue;
                }
            };
            let known = self.elector.record(&subject).cloned();
            if let Some(record) = table.write(&subject, known.as_ref(), holder, self.elector.count()) {
                self.elector.wrote(&subject, record, sent);
            }
        }
    }

    /// What it acts upon.
    fn held(&self, now: Instant) -> Vec<u16> {
        let is_held = |number: &u16| self.elector.held_until(*number).is_some_and(|until| now < until);
        (0..self.elector.count()).filter(is_held).collect()
    }
}

struct Stage {
    table: Table,
    replicas: Vec<Replica>,
    counts: Vec<u16>,
    now: Instant,
}

impl Stage {
    fn new(counts: &[u16]) -> Self {
        let replicas = counts.iter().enumerate().map(|(number, count)| Replica::new(number, *count)).collect();
        Self { table: Table::default(), replicas, counts: counts.to_vec(), now: Instant::now() }
    }

    /// All who run do what they should, a second at a time.
    fn calm(&mut self, seconds: u32) {
        for _ in 0..seconds {
            for number in 0..self.replicas.len() {
                self.step(number);
            }
            self.now += SECOND;
            self.check();
        }
    }

    fn step(&mut self, number: usize) {
        let replica = &mut self.replicas[number];
        if replica.is_running {
            replica.act(&mut self.table);
            replica.resolve(&self.table, self.now);
            replica.act(&mut self.table);
            // What was taken is looked at again at once.
            replica.resolve(&self.table, self.now);
            replica.act(&mut self.table);
        }
        self.check();
    }

    fn kill(&mut self, number: usize) {
        self.replicas[number].is_running = false;
    }

    fn start(&mut self, number: usize) {
        self.replicas[number] = Replica::new(number, self.counts[number]);
    }

    /// No bucket has two owners, nor do two divide the connections differently.
    fn check(&self) {
        let mut owners = BTreeMap::new();
        for (number, replica) in self.replicas.iter().enumerate().filter(|(_, replica)| replica.is_running) {
            for bucket in replica.held(self.now) {
                let other = owners.insert(bucket, number);
                assert_eq!(other, None, "bucket {bucket} is held by {number}, too");
            }
        }
        let counts: Vec<_> = owners.values().map(|number| self.counts[*number]).collect();
        assert!(counts.windows(2).all(|pair| pair[0] == pair[1]), "{owners:?}");
    }

    fn held(&self) -> Vec<usize> {
        self.replicas.iter().map(|replica| if replica.is_running { replica.held(self.now).len() } else { 0 }).collect()
    }
}

#[test]
fn one_leads_and_another_takes_over_within_the_duration() {
    let mut stage = Stage::new(&[1, 1]);
    stage.calm(60);
    assert_eq!(stage.held(), [1, 0]);
    stage.kill(0);
    let killed = stage.now;
    while stage.held() == [0, 0] {
        stage.calm(1);
    }
    assert!(stage.now - killed <= DURATION + SECOND, "{:?}", stage.now - killed);
    stage.start(0);
    stage.calm(60);
    assert_eq!(stage.held(), [0, 1], "who comes back waits");
}

#[test]
fn who_starts_anew_under_its_old_name_goes_on_at_once() {
    let mut stage = Stage::new(&[1, 1]);
    stage.calm(7);
    stage.start(0);
    assert_eq!(stage.held(), [0, 0]);
    stage.calm(1);
    assert_eq!(stage.held(), [1, 0]);
}

#[test]
fn what_is_let_go_of_is_taken_at_the_next_look() {
    let mut stage = Stage::new(&[1, 1]);
    stage.calm(30);
    let replica = &mut stage.replicas[0];
    replica.resolved = Some((vec![Move::Free(0)], stage.now));
    replica.act(&mut stage.table);
    stage.kill(0);
    stage.calm(1);
    assert_eq!(stage.held(), [0, 1]);
}

#[test]
fn replicas_divide_the_buckets_evenly_and_again_when_one_comes_or_goes() {
    let mut stage = Stage::new(&[16, 16, 16, 16]);
    stage.kill(3);
    stage.calm(20);
    let sorted = |stage: &Stage| {
        let mut held = stage.held();
        held.sort_unstable();
        held
    };
    assert_eq!(sorted(&stage), [0, 5, 5, 6]);
    stage.start(3);
    stage.calm(5);
    assert_eq!(sorted(&stage), [4, 4, 4, 4]);
    stage.kill(1);
    stage.calm(17);
    assert_eq!(sorted(&stage), [0, 5, 5, 6]);
    // More replicas than buckets: the rest stands by.
    let mut stage = Stage::new(&[2, 2, 2]);
    stage.calm(20);
    assert_eq!(sorted(&stage), [0, 1, 1]);
}

#[test]
fn the_lease_of_a_replica_that_is_gone_is_deleted() {
    let mut stage = Stage::new(&[4, 4]);
    stage.calm(20);
    stage.kill(1);
    let replicas = |stage: &Stage| stage.table.leases.keys().filter(|key| matches!(key, Subject::Replica(_))).count();
    stage.calm(250);
    assert_eq!(replicas(&stage), 2);
    stage.calm(60);
    assert_eq!(replicas(&stage), 1);
}

#[test]
fn who_divides_otherwise_waits_until_the_others_have_gone() {
    let mut stage = Stage::new(&[1, 16]);
    stage.calm(40);
    assert_eq!(stage.held(), [1, 0]);
    stage.kill(0);
    stage.calm(20);
    assert_eq!(stage.held(), [0, 16]);
}

/// It renews what nobody has taken of what it had, and somebody else has begun who needs no more than the first one for everything.
#[test]
fn who_comes_back_late_looks_before_it_goes_on() {
    let mut stage = Stage::new(&[1, 16]);
    stage.step(1);
    stage.calm(1);
    assert_eq!(stage.held(), [0, 16]);
    let late = &mut stage.replicas[1];
    stage.now += 14 * SECOND;
    late.resolve(&stage.table, stage.now);
    stage.step(0);
    assert_eq!(stage.held(), [1, 0]);
    stage.replicas[1].act(&mut stage.table);
    stage.check();
    stage.calm(1);
    assert_eq!(stage.held(), [1, 0]);
}

#[derive(Clone, Debug)]
enum Op {
    Resolve(usize),
    Act(usize),
    Step(usize),
    Advance(u64),
    Kill(usize),
    Start(usize),
    Calm(u32),
}

fn op() -> impl Strategy<Value = Op> {
    let who = 0..4usize;
    prop_oneof![
        4 => who.clone().prop_map(Op::Resolve),
        4 => who.clone().prop_map(Op::Act),
        6 => who.clone().prop_map(Op::Step),
        6 => (0..20_000u64).prop_map(Op::Advance),
        1 => who.clone().prop_map(Op::Kill),
        2 => who.prop_map(Op::Start),
        2 => (1..30u32).prop_map(Op::Calm),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bucket_ever_has_two_owners(
        ops in vec(op(), 1..200),
        counts in prop_oneof![Just([1; 4]), Just([16; 4]), Just([1, 1, 16, 16]), Just([4, 5, 4, 5])],
    ) {
        let mut stage = Stage::new(&counts);
        for op in ops {
            match op {
                Op::Resolve(number) if stage.replicas[number].is_running => {
                    let now = stage.now;
                    stage.replicas[number].resolve(&stage.table, now);
                }
                Op::Act(number) if stage.replicas[number].is_running => stage.replicas[number].act(&mut stage.table),
                Op::Step(number) => stage.step(number),
                Op::Advance(millis) => stage.now += Duration::from_millis(millis),
                Op::Kill(number) => stage.kill(number),
                Op::Start(number) => stage.start(number),
                Op::Calm(seconds) => stage.calm(seconds),
                _ => {}
            }
            stage.check();
        }
        // In the end somebody holds each bucket, and those who think alike hold about as many.
        stage.start(0);
        stage.calm(120);
        let held = stage.held();
        let counts: Vec<_> = (0..4).filter(|number| held[*number] > 0).map(|number| counts[number]).collect();
        prop_assert_eq!(held.iter().sum::<usize>(), usize::from(counts[0]), "{:?}", held);
    }
}
