//! Many objects, applied and deleted in a loop while everything else goes on: what is kept of an object must go with it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use futures::{StreamExt as _, stream};

use super::{book::Book, churn::Churn, cluster::Cluster, model::HOME, rng::Rng, subject::Subject};
use crate::eventually;

/// So many calls at a time.
const AT_A_TIME: usize = 16;
/// A round that is begun must find its end within the storm.
const ROUND: Duration = Duration::from_secs(60);
/// How long the objects of a round are waited for, and deleted.
const SHOWN: Duration = Duration::from_secs(20);
const GONE: Duration = Duration::from_secs(180);
/// Rounds in peace, after the first of them; by how much memory may differ after them.
const ROUNDS: usize = 4;
const GROWTH: u64 = 8 << 20;

/// The flood.
pub(super) struct Flood {
    pub(super) cluster: Cluster,
    pub(super) churn: Arc<Churn>,
    pub(super) subject: Arc<Subject>,
    pub(super) book: Arc<Book>,
    /// None where it is 0.
    pub(super) objects: u64,
}

impl Flood {
    /// Round by round; at the end, none of them is left.
    pub(super) async fn run(&self, mut rng: Rng, until: Instant) -> Result<()> {
        while self.objects > 0 && Instant::now() + ROUND < until {
            self.round(&mut rng).await?;
        }
        Ok(())
    }

    /// Without faults: each round leaves the memory as the first one did. A restart among the faults would hide that it does not.
    pub(super) async fn in_peace(&self, mut rng: Rng) -> Result<()> {
        if self.objects == 0 {
            return Ok(());
        }
        let first = self.round(&mut rng).await?;
        let mut last = first;
        for _ in 0..ROUNDS {
            last = self.round(&mut rng).await?;
        }
        if last > first + GROWTH {
            let what =
                format!("{} MiB after one round of objects, {} MiB after {ROUNDS} more", first >> 20, last >> 20);
            self.book.finding("memory of deleted objects", what);
        }
        Ok(())
    }

    /// Applies them, waits until they are shown, deletes them; the operator's memory then.
    async fn round(&self, rng: &mut Rng) -> Result<u64> {
        let begun = Instant::now();
        let made = self.make(rng).await;
        let applied = begun.elapsed();
        // With faults all around, not all of them will be.
        let shown = eventually(SHOWN, "most objects of the flood have their state", || async {
            let shown = self.names(true).await?.len();
            anyhow::ensure!(shown * 10 >= made * 9, "{shown} of {made}");
            Ok(shown)
        })
        .await;
        let shown = shown.map_or_else(|error| format!("{error:#}"), |shown| shown.to_string());
        eventually(GONE, "the objects of the flood are gone", || async {
            let left = self.names(false).await?;
            let deletes = left.iter().map(|name| self.cluster.delete_watch(HOME, name));
            stream::iter(deletes).for_each_concurrent(AT_A_TIME, async |deleted| drop(deleted.await)).await;
            anyhow::ensure!(left.is_empty(), "{} are left", left.len());
            Ok(())
        })
        .await?;
        let memory = self.subject.usage().await.map(|usage| usage.rss_bytes).unwrap_or_default();
        self.book.act(&format!(
            "flood: {made} applied in {applied:.1?}, {shown} with their state, gone after {:.1?}; {} MiB",
            begun.elapsed(),
            memory >> 20
        ));
        Ok(memory)
    }

    /// How many could be made.
    async fn make(&self, rng: &mut Rng) -> usize {
        let objects: Vec<_> =
            (0..self.objects).filter_map(|n| self.churn.object_of_known_task(&format!("flood-{n:05}"), rng)).collect();
        let makes = objects.into_iter().map(|object| self.cluster.make_watch(object));
        stream::iter(makes).buffer_unordered(AT_A_TIME).filter(|made| std::future::ready(made.is_ok())).count().await
    }

    async fn names(&self, with_state: bool) -> Result<Vec<String>> {
        let objects = self.cluster.list().await?;
        let own = objects.iter().filter(|object| !with_state || object["status"]["state"].is_string());
        let names = own.filter_map(|object| object["metadata"]["name"].as_str());
        Ok(names.filter(|name| name.starts_with("flood-")).map(str::to_owned).collect())
    }
}
