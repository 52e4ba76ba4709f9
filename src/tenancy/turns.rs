//! A queue in which tenants take turns: who has thousands waiting holds nobody else up.

use std::collections::{HashMap, VecDeque};

use super::Tenant;

/// Room for more entries than these is given back when none waits: a start has thousands.
const ROOM: usize = 1024;

/// The queue. In the order of coming for each tenant, one of each tenant in turn.
#[derive(Debug)]
pub struct Turns<T> {
    /// None is empty.
    waiting: HashMap<Tenant, VecDeque<T>>,
    /// The tenants of `waiting`, whose turn comes first.
    order: VecDeque<Tenant>,
    len: usize,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self { waiting: HashMap::new(), order: VecDeque::new(), len: 0 }
    }
}

impl<T> Turns<T> {
    /// Queues `item` on the account of `tenant`.
    pub fn push(&mut self, tenant: &Tenant, item: T) {
        self.len += 1;
        if let Some(queue) = self.waiting.get_mut(tenant) {
            queue.push_back(item);
            return;
        }
        self.waiting.insert(tenant.clone(), VecDeque::from([item]));
        self.order.push_back(tenant.clone());
    }

    /// The next one of the tenant whose turn it is.
    pub fn pop(&mut self) -> Option<T> {
        self.pop_of(|_| true)
    }

    /// The next one of the first tenant in turn that `may` go on.
    pub fn pop_of(&mut self, may: impl FnMut(&Tenant) -> bool) -> Option<T> {
        let at = self.order.iter().position(may)?;
        let tenant = self.order.remove(at)?;
        let queue = self.waiting.get_mut(&tenant)?;
        let item = queue.pop_front();
        if queue.is_empty() {
            self.waiting.remove(&tenant);
        } else {
            self.order.push_back(tenant);
        }
        self.len -= usize::from(item.is_some());
        if self.len == 0 && (self.waiting.capacity() > ROOM || self.order.capacity() > ROOM) {
            *self = Self::default();
        }
        item
    }

    /// Takes those of `tenant` out that are not to be kept.
    pub fn retain(&mut self, tenant: &Tenant, keep: impl FnMut(&T) -> bool) {
        let Some(queue) = self.waiting.get_mut(tenant) else { return };
        let before = queue.len();
        queue.retain(keep);
        self.len -= before - queue.len();
        if queue.is_empty() {
            self.waiting.remove(tenant);
            self.order.retain(|waiting| waiting != tenant);
        }
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    fn tenant(name: &str) -> Tenant {
        Tenant::namespace(&Arc::from(name))
    }

    #[test]
    fn a_newcomer_waits_for_one_of_each_other_tenant() {
        let mut turns = Turns::default();
        for item in 0..1000 {
            turns.push(&tenant("greedy"), item);
        }
        turns.push(&tenant("modest"), 5000);
        turns.push(&tenant("modest"), 5001);
        let order: Vec<_> = std::iter::from_fn(|| turns.pop()).collect();
        assert_eq!(order[..5], [0, 5000, 1, 5001, 2]);
        assert_eq!(order.len(), 1002);
    }

    #[test]
    fn who_may_not_go_on_keeps_the_place() {
        let mut turns = Turns::default();
        for (name, item) in [("a", 1), ("a", 2), ("b", 3)] {
            turns.push(&tenant(name), item);
        }
        assert_eq!(turns.pop_of(|tenant| tenant.as_str() != "a"), Some(3));
        assert_eq!(turns.pop_of(|tenant| tenant.as_str() != "a"), None);
        turns.push(&tenant("b"), 4);
        assert_eq!([turns.pop(), turns.pop(), turns.pop()], [Some(1), Some(4), Some(2)]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_each_tenant_keeps_its_order(steps in proptest::collection::vec((0_usize..4, 0_usize..4), 0..200)) {
            let names = ["a", "b", "c", "d"].map(tenant);
            let mut turns = Turns::default();
            let mut expected: [Vec<usize>; 4] = Default::default();
            let mut got: [Vec<usize>; 4] = Default::default();
            for (number, (who, what)) in steps.into_iter().enumerate() {
                match what {
                    0 => got_one(&mut got, turns.pop()),
                    1 => {
                        turns.retain(&names[who], |(_, item)| item % 2 == 0);
                        let popped = got[who].len();
                        let mut place = 0;
                        expected[who].retain(|item| {
                            place += 1;
                            place <= popped || item % 2 == 0
                        });
                    }
                    _ => {
                        turns.push(&names[who], (who, number));
                        expected[who].push(number);
                    }
                }
                let waiting: usize = (0..4).map(|who| expected[who].len() - got[who].len()).sum();
                prop_assert_eq!(turns.len(), waiting);
            }
            while !turns.is_empty() {
                got_one(&mut got, turns.pop());
            }
            prop_assert_eq!(got, expected);
        }
    }

    fn got_one(got: &mut [Vec<usize>; 4], item: Option<(usize, usize)>) {
        if let Some((who, item)) = item {
            got[who].push(item);
        }
    }
}
