//! How many objects are asked for at a time. Objects differ by a factor of a thousand in size, and whoever may write objects chooses
//! it: pages are bounded by their bytes, not by their number of objects.

/// Objects in the first page.
const FIRST: u32 = 25;
/// Objects in a page at most: the API server puts a page together in its memory before it sends any of it.
const MOST: u32 = 250;
/// Bytes that a page should have.
const GOAL: usize = 1 << 20;
/// Bytes at which a page of several objects is given up, to be asked for again with fewer.
const PAGE_CAP: usize = 4 << 20;
/// Bytes of a single object at most. etcd takes 1.5 MiB unless told otherwise (`--max-request-bytes`).
pub(super) const OBJECT_CAP: usize = 16 << 20;

/// The size of the next page.
#[derive(Debug)]
pub(super) struct Pages {
    limit: u32,
}

impl Default for Pages {
    fn default() -> Self {
        Self { limit: FIRST }
    }
}

impl Pages {
    /// How many objects the next page may have, 1 to [`MOST`].
    pub(super) fn limit(&self) -> u32 {
        self.limit
    }

    /// How many bytes of it are read.
    pub(super) fn cap(&self) -> usize {
        if self.limit == 1 { OBJECT_CAP } else { PAGE_CAP }
    }

    /// A page of so many objects had so many bytes: the next one is as large as fits, but grows step by step.
    pub(super) fn read(&mut self, objects: usize, bytes: usize) {
        let each = bytes.checked_div(objects).unwrap_or(bytes).max(1);
        let fitting = u32::try_from(GOAL / each).unwrap_or(MOST);
        self.limit = fitting.clamp(1, MOST.min(self.limit.saturating_mul(4)));
    }

    /// A page was larger than [`Self::cap`]. Returns whether a smaller one can be asked for: a single object cannot be divided.
    pub(super) fn too_large(&mut self) -> bool {
        let can_shrink = self.limit > 1;
        self.limit = (self.limit / 8).max(1);
        can_shrink
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_objects_make_large_pages_within_a_few() {
        let mut pages = Pages::default();
        let limits: Vec<_> = std::iter::repeat_with(|| {
            let limit = pages.limit();
            pages.read(limit as usize, limit as usize * 2_500);
            limit
        })
        .take(4)
        .collect();
        assert_eq!(limits, [25, 100, 250, 250]);
    }

    #[test]
    fn a_page_above_the_goal_is_followed_by_one_that_fits() {
        let mut pages = Pages::default();
        pages.read(25, 25 * 150_000);
        assert_eq!(pages.limit(), 6);
        pages.read(6, 6 * 150_000);
        assert_eq!(pages.limit(), 6, "and it stays");
        pages.read(6, 6 * 1_000);
        assert_eq!(pages.limit(), 24, "and grows again");
        pages.read(0, 200);
        assert_eq!(pages.limit(), 96, "an empty page is no reason to stop");
    }

    #[test]
    fn a_page_that_is_given_up_shrinks_down_to_a_single_object() {
        let mut pages = Pages { limit: MOST };
        let mut shrunk = Vec::new();
        while pages.too_large() {
            shrunk.push((pages.limit(), pages.cap()));
        }
        assert_eq!(shrunk, [(31, PAGE_CAP), (3, PAGE_CAP), (1, OBJECT_CAP)]);
        assert_eq!(pages.limit(), 1);
    }
}
