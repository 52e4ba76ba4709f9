//! What holds in every story.
