//! Follows the frames of an HTTP/2 connection as they arrive, and tells when too many of them carry no answer: PING, SETTINGS,
//! `WINDOW_UPDATE`, PRIORITY, unknown ones, empty DATA, CONTINUATION. Pure: bytes and the time go in, a verdict comes out.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::flood::{Flood, MAX_INFORMATIONAL};

/// So many frames may come without a byte of an answer, and are forgiven again at [`FRAMES_PER_SECOND`]: an honest server's PINGs,
/// acknowledgements and window updates are far fewer.
const FRAMES: i64 = 10_000;
/// Frames without a byte of an answer that are forgiven each second.
const FRAMES_PER_SECOND: i64 = 100;
/// Frames that are forgiven with each answer: its own head, trailers, and what servers send along.
const FRAMES_PER_ANSWER: i64 = 16;
/// What one frame costs, in bytes of answers that make up for it.
const FRAME: i64 = 64;
/// Bytes of a payload that is no answer's which cost as much as one byte of an answer makes up for.
const OVERHEAD: i64 = 4;
/// The most streams whose heads are counted; the oldest are forgotten first.
const STREAMS: usize = 512;
/// Heads that a stream may have: the informational ones, the answer's, and its trailers.
const HEADS: u8 = MAX_INFORMATIONAL + 2;

// RFC 9113 §4.1, §6.
const HEADER: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const END_STREAM: u8 = 0x1;
const PADDED: u8 = 0x8;

/// What has come so far.
pub(super) struct Frames {
    header: [u8; HEADER],
    /// How much of `header` is there.
    have: usize,
    /// Bytes of the present frame's payload that are still to come.
    payload: usize,
    /// In bytes of answers.
    credit: i64,
    /// Until when the credit is reckoned.
    at: Instant,
    /// Heads by stream, of those that have not ended.
    heads: BTreeMap<u32, u8>,
}

impl Frames {
    pub(super) fn new(now: Instant) -> Self {
        let heads = BTreeMap::new();
        Self { header: [0; HEADER], have: 0, payload: 0, credit: FRAMES * FRAME, at: now, heads }
    }

    /// Takes in what was read, and how many answers were begun since the last time.
    ///
    /// # Errors
    /// The connection is to be ended.
    pub(super) fn read(&mut self, mut bytes: &[u8], answers: u32, now: Instant) -> Result<(), Flood> {
        self.forgive(answers, now);
        while !bytes.is_empty() {
            if self.payload > 0 {
                let skip = self.payload.min(bytes.len());
                self.payload -= skip;
                bytes = bytes.get(skip..).unwrap_or_default();
                continue;
            }
            let take = (HEADER - self.have).min(bytes.len());
            let (head, rest) = bytes.split_at(take);
            self.header.iter_mut().skip(self.have).zip(head).for_each(|(to, from)| *to = *from);
            self.have += take;
            bytes = rest;
            if self.have == HEADER {
                self.have = 0;
                self.frame()?;
            }
        }
        Ok(())
    }

    fn forgive(&mut self, answers: u32, now: Instant) {
        let elapsed = now.saturating_duration_since(self.at);
        // Whole steps only, so that many reads in one step do not lose what each is too short for.
        let step = Duration::from_millis(10);
        let steps = i64::try_from(elapsed.as_millis() / step.as_millis()).unwrap_or(i64::MAX);
        if steps > 0 {
            self.at = now;
        }
        let forgiven =
            steps.saturating_mul(FRAMES_PER_SECOND * FRAME / 100) + i64::from(answers) * FRAMES_PER_ANSWER * FRAME;
        self.credit = self.credit.saturating_add(forgiven).min(FRAMES * FRAME);
    }

    /// Weighs the frame whose header is complete.
    fn frame(&mut self) -> Result<(), Flood> {
        let [l1, l2, l3, kind, flags, s1, s2, s3, s4] = self.header;
        let length = u32::from_be_bytes([0, l1, l2, l3]);
        let stream = u32::from_be_bytes([s1 & 0x7f, s2, s3, s4]);
        self.payload = usize::try_from(length).unwrap_or(usize::MAX);
        self.credit -= FRAME;
        // Padding is no part of an answer; how much there is, is not looked at.
        if kind == DATA && flags & PADDED == 0 {
            self.credit = (self.credit + i64::from(length)).min(FRAMES * FRAME);
        } else {
            self.credit -= i64::from(length) / OVERHEAD;
        }
        if self.credit < 0 {
            return Err(Flood::Control);
        }
        let ended = matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0;
        if ended || kind == RST_STREAM {
            self.heads.remove(&stream);
        } else if kind == HEADERS {
            let heads = self.heads.entry(stream).or_default();
            *heads = heads.saturating_add(1);
            if *heads > HEADS {
                return Err(Flood::Informational);
            }
            if self.heads.len() > STREAMS {
                self.heads.pop_first();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let [.., l1, l2, l3] = payload.len().to_be_bytes();
        [&[l1, l2, l3, kind, flags, 0, 0, 0, stream], payload].concat()
    }

    /// How many of these frames pass, up to `most`.
    fn passes(frame: &[u8], most: u32) -> (u32, Option<Flood>) {
        let now = Instant::now();
        let mut frames = Frames::new(now);
        for count in 0..most {
            if let Err(flood) = frames.read(frame, 0, now) {
                return (count, Some(flood));
            }
        }
        (most, None)
    }

    #[test]
    fn frames_without_an_answer_end_the_connection() {
        for (kind, payload) in
            [(6, &[0; 8][..]), (4, b""), (8, &[0; 4]), (2, &[0; 5]), (0xfa, b""), (DATA, b""), (9, b"")]
        {
            let (passed, flood) = passes(&frame(kind, 0, 1, payload), 20_000);
            assert_eq!(flood, Some(Flood::Control), "{kind}");
            assert!((9_000..=10_000).contains(&passed), "{kind}: {passed}");
        }
        // Padding alone is no answer, and tiny parts are little of one.
        assert_eq!(passes(&frame(DATA, PADDED, 1, &[0; 200]), 20_000).1, Some(Flood::Control));
        assert_eq!(passes(&frame(DATA, 0, 1, b"x"), 20_000).1, Some(Flood::Control));
        // Large frames of no use cost more.
        assert!(passes(&frame(0xfa, 0, 1, &[0; 16_384]), 20_000).0 < 200);
    }

    #[test]
    fn answers_make_up_for_their_frames() {
        assert_eq!(passes(&frame(DATA, 0, 1, &[0; 64]), 50_000), (50_000, None));
        let now = Instant::now();
        let mut frames = Frames::new(now);
        // A head, a part, an end, a window update and a PING for each of many answers.
        let answer = [
            frame(HEADERS, 4, 1, &[0; 40]),
            frame(DATA, 0, 1, b"{}"),
            frame(DATA, END_STREAM, 1, b""),
            frame(8, 0, 0, &[0; 4]),
            frame(6, 0, 0, &[0; 8]),
        ]
        .concat();
        for count in 0..50_000 {
            assert_eq!(frames.read(&answer, 1, now), Ok(()), "{count}");
        }
    }

    #[test]
    fn time_forgives() {
        let start = Instant::now();
        let mut frames = Frames::new(start);
        let ping = frame(6, 0, 0, &[0; 8]);
        // Fifty a second for an hour, read in pieces.
        for count in 0..180_000_u64 {
            let now = start + Duration::from_millis(20 * count);
            assert!(ping.iter().all(|byte| frames.read(&[*byte], 0, now).is_ok()), "{count}");
        }
    }

    #[test]
    fn informational_heads_are_counted_by_stream() {
        let now = Instant::now();
        let mut frames = Frames::new(now);
        for stream in 1..200 {
            for _ in 0..HEADS {
                assert_eq!(frames.read(&frame(HEADERS, 4, stream, b"x"), 0, now), Ok(()));
            }
        }
        assert_eq!(frames.read(&frame(HEADERS, 4, 7, b"x"), 0, now), Err(Flood::Informational));
        let mut frames = Frames::new(now);
        for _ in 0..100 {
            assert_eq!(frames.read(&frame(HEADERS, 4 | END_STREAM, 1, b"x"), 0, now), Ok(()));
        }
    }
}
