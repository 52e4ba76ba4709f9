//! The places of a port: a fixed number, shared out among the peers, and who gives one up for the next.

use std::{collections::HashMap, hash::Hash};

/// How many connections a port holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Of all peers.
    pub(super) total: usize,
    /// Of one peer.
    pub(super) per_peer: usize,
}

/// How much is lost when a connection is given up; less comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// The answer is sent.
    Answered,
    /// The request is not complete.
    Asking,
    /// The answer is not there yet.
    Waiting,
    /// The answer is being sent.
    Answering,
}

/// What holds a place.
pub(super) trait Guest {
    /// How far it is.
    fn stage(&self) -> Stage;
}

/// The connections of a port, oldest first.
pub(super) struct Places<P, G> {
    bounds: Bounds,
    held: Vec<(P, G)>,
    peers: HashMap<P, usize>,
}

impl<P: Copy + Eq + Hash, G: Guest> Places<P, G> {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, held: Vec::new(), peers: HashMap::new() }
    }

    /// Who has to go before `peer` gets a place; none where there is room.
    ///
    /// A peer that has its bound gives up one of its own. Where all places are taken, one of those who hold most gives up one: who
    /// holds less than the others loses nothing to them. Among these it is the one with the least to lose, then the oldest.
    pub(super) fn victim(&self, peer: P) -> Option<usize> {
        let own = self.count(peer);
        let least = if own >= self.bounds.per_peer {
            own
        } else if self.held.len() >= self.bounds.total {
            self.peers.values().copied().max()?
        } else {
            return None;
        };
        let is_own = own >= self.bounds.per_peer;
        let candidates = self.held.iter().enumerate();
        candidates
            .filter(|(_, (holder, _))| if is_own { *holder == peer } else { self.count(*holder) >= least })
            .min_by_key(|(at, (_, guest))| (guest.stage(), *at))
            .map(|(at, _)| at)
    }

    /// Gives `peer` a place.
    pub(super) fn push(&mut self, peer: P, guest: G) {
        *self.peers.entry(peer).or_default() += 1;
        self.held.push((peer, guest));
    }

    /// Takes the place at `at` away.
    pub(super) fn remove(&mut self, at: usize) -> G {
        let (peer, guest) = self.held.remove(at);
        if let Some(count) = self.peers.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                self.peers.remove(&peer);
            }
        }
        guest
    }

    /// Keeps those for whom `keep` says so.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(usize, &mut G) -> bool) {
        let (mut at, peers) = (0, &mut self.peers);
        self.held.retain_mut(|(peer, guest)| {
            let kept = keep(at, guest);
            at += 1;
            if !kept && let Some(count) = peers.get_mut(peer) {
                *count -= 1;
                if *count == 0 {
                    peers.remove(peer);
                }
            }
            kept
        });
    }

    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut G> {
        self.held.get_mut(at).map(|(_, guest)| guest)
    }

    /// All, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &G> {
        self.held.iter().map(|(_, guest)| guest)
    }

    fn count(&self, peer: P) -> usize {
        self.peers.get(&peer).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl Guest for (u32, Stage) {
        fn stage(&self) -> Stage {
            self.1
        }
    }

    const BOUNDS: Bounds = Bounds { total: 6, per_peer: 4 };

    /// Lets one in; who had to go for it.
    fn enter(places: &mut Places<char, (u32, Stage)>, peer: char, name: u32, stage: Stage) -> Option<u32> {
        let gone = places.victim(peer).map(|at| places.remove(at).0);
        places.push(peer, (name, stage));
        gone
    }

    #[test]
    fn a_peer_at_its_bound_gives_up_the_oldest_of_its_own() {
        let mut places = Places::new(BOUNDS);
        assert_eq!(enter(&mut places, 'k', 0, Stage::Asking), None);
        for name in 1..=4 {
            assert_eq!(enter(&mut places, 'a', name, Stage::Asking), None);
        }
        assert_eq!(enter(&mut places, 'a', 5, Stage::Asking), Some(1));
        assert_eq!(enter(&mut places, 'a', 6, Stage::Asking), Some(2));
    }

    #[test]
    fn when_all_are_taken_those_who_hold_most_give_up() {
        let mut places = Places::new(BOUNDS);
        enter(&mut places, 'k', 0, Stage::Asking);
        for name in 1..=2 {
            enter(&mut places, 'a', name, Stage::Asking);
        }
        for name in 3..=5 {
            enter(&mut places, 'b', name, Stage::Asking);
        }
        // The single one is the oldest, and stays.
        assert_eq!(enter(&mut places, 'c', 6, Stage::Asking), Some(3));
    }

    #[test]
    fn who_has_least_to_lose_goes_first() {
        let mut places = Places::new(BOUNDS);
        for (name, stage) in [Stage::Answering, Stage::Asking, Stage::Answered, Stage::Asking].into_iter().enumerate() {
            enter(&mut places, 'a', u32::try_from(name).unwrap(), stage);
        }
        assert_eq!(enter(&mut places, 'a', 4, Stage::Answering), Some(2));
        assert_eq!(enter(&mut places, 'a', 5, Stage::Answering), Some(1));
        assert_eq!(enter(&mut places, 'a', 6, Stage::Answering), Some(3));
        assert_eq!(enter(&mut places, 'a', 7, Stage::Answering), Some(0));
    }

    proptest! {
        #[test]
        fn the_bounds_hold_and_a_small_share_is_never_taken(peers in proptest::collection::vec(0u8..5, 0..200)) {
            let mut places: Places<u8, (u32, Stage)> = Places::new(BOUNDS);
            // One that holds a single place, beside others that hold more or come more often.
            places.push(99, (0, Stage::Asking));
            for peer in peers {
                if let Some(at) = places.victim(peer) {
                    let most = places.peers.values().copied().max().unwrap_or_default();
                    let gone = places.remove(at);
                    prop_assert!(gone.0 != 0 || most == 1, "the single one went before the many");
                    if gone.0 == 0 {
                        break;
                    }
                }
                places.push(peer, (1, Stage::Asking));
                prop_assert!(places.held.len() <= BOUNDS.total);
                prop_assert!(places.peers.values().all(|count| *count <= BOUNDS.per_peer));
                prop_assert_eq!(places.peers.values().sum::<usize>(), places.held.len());
            }
        }
    }
}
