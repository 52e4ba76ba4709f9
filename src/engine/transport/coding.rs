//! Content codings of answers (RFC 9110 §8.4): what was applied, undone in small steps. Pure: bytes go in, bytes come out.

use std::{
    io::{self, BufRead, BufReader, Cursor, ErrorKind, Read},
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::{Buf, Bytes, BytesMut};
use flate2::{Decompress, FlushDecompress, Status, bufread::MultiGzDecoder};
use http::{HeaderMap, header::CONTENT_ENCODING};

use crate::sync::lock;

/// The most codings that are undone; servers apply one.
const MOST: usize = 4;
/// The most that one step gives, in bytes.
const STEP: usize = 16 << 10;
/// The most that may pass between two codings in one step, in bytes.
const BETWEEN: usize = 64 << 10;
/// What a reader between two codings holds, in bytes.
const BUFFER: usize = 4 << 10;

/// A coding that can be undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Deflate,
}

/// Which codings an answer has, in the order in which they were applied.
///
/// # Errors
/// The name of one that is not known, or a sentence about their number.
pub(super) fn codings(headers: &HeaderMap) -> Result<Vec<Coding>, String> {
    let mut found = Vec::new();
    for value in headers.get_all(CONTENT_ENCODING) {
        let text = String::from_utf8_lossy(value.as_bytes());
        for name in text.split(',').map(|name| name.trim_matches([' ', '\t'])) {
            // `x-gzip` is the same (§8.4.1.3); `identity` is none.
            match name.to_ascii_lowercase().as_str() {
                "" | "identity" => continue,
                "gzip" | "x-gzip" => found.push(Coding::Gzip),
                "deflate" => found.push(Coding::Deflate),
                _ => return Err(name.to_owned()),
            }
            if found.len() > MOST {
                return Err("more than four at once".to_owned());
            }
        }
    }
    Ok(found)
}

/// What a step of decoding came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A part of the content, of 16 KiB at most.
    Part(Bytes),
    /// More input is needed, or its end.
    Hungry,
    /// There is more to do: let others have their turn first.
    Busy,
    /// The content is complete.
    End,
}

/// Undoes the codings of one answer.
pub(super) struct Decoder {
    input: Input,
    output: Box<dyn Read + Send>,
    any: bool,
}

impl Decoder {
    /// Undoes `codings`; between two of them pass `limit` bytes at most.
    pub(super) fn new(codings: &[Coding], limit: usize) -> Self {
        let input = Input::default();
        let mut output: Box<dyn Read + Send> = Box::new(input.clone());
        for (place, coding) in codings.iter().rev().enumerate() {
            if place > 0 {
                output = Box::new(Between { inner: output, input: input.clone(), left: limit });
            }
            let buffered = BufReader::with_capacity(BUFFER, output);
            output = match coding {
                Coding::Gzip => Box::new(MultiGzDecoder::new(buffered)),
                Coding::Deflate => Box::new(Deflate::new(buffered)),
            };
        }
        Self { input, output, any: false }
    }

    /// Gives more input.
    pub(super) fn push(&mut self, bytes: Bytes) {
        self.any |= !bytes.is_empty();
        self.input.lock().bytes = bytes;
    }

    /// There is no more input.
    pub(super) fn finish(&mut self) {
        self.input.lock().ended = true;
    }

    /// Decodes a little.
    ///
    /// # Errors
    /// The data is broken, cut short, or (`ErrorKind::FileTooLarge`) larger between two codings than the limit.
    pub(super) fn step(&mut self) -> io::Result<Step> {
        let ended = {
            let mut input = self.input.lock();
            (input.between, input.paused) = (0, false);
            input.ended
        };
        // Nothing at all is no broken data: answers without content name a coding, too.
        if !self.any {
            return Ok(if ended { Step::End } else { Step::Hungry });
        }
        let mut part = BytesMut::zeroed(STEP);
        match self.output.read(&mut part) {
            Ok(0) => Ok(Step::End),
            Ok(bytes) => {
                part.truncate(bytes);
                Ok(Step::Part(part.freeze()))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                Ok(if self.input.lock().paused { Step::Busy } else { Step::Hungry })
            }
            Err(error) => Err(error),
        }
    }
}

/// What has come of the coded content and was not decoded yet.
#[derive(Clone, Default)]
struct Input(Arc<Mutex<Pending>>);

#[derive(Default)]
struct Pending {
    bytes: Bytes,
    ended: bool,
    /// Bytes that have passed between two codings in this step.
    between: usize,
    /// Whether the step ends for their number.
    paused: bool,
}

impl Input {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        lock(&self.0)
    }
}

impl Read for Input {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let mut pending = self.lock();
        if pending.bytes.is_empty() && !pending.ended {
            return Err(ErrorKind::WouldBlock.into());
        }
        let bytes = pending.bytes.len().min(to.len());
        let (to, _) = to.split_at_mut(bytes);
        pending.bytes.copy_to_slice(to);
        Ok(bytes)
    }
}

/// Bounds what passes from one coding to the next: in a step, so that it is short, and in all.
struct Between {
    inner: Box<dyn Read + Send>,
    input: Input,
    left: usize,
}

impl Read for Between {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        {
            let mut pending = self.input.lock();
            if pending.between >= BETWEEN {
                pending.paused = true;
                return Err(ErrorKind::WouldBlock.into());
            }
        }
        let bytes = self.inner.read(to)?;
        self.left = self.left.checked_sub(bytes).ok_or(ErrorKind::FileTooLarge)?;
        self.input.lock().between += bytes;
        Ok(bytes)
    }
}

/// `deflate`: zlib's format, as RFC 9110 §8.4.1.2 has it, or the bare data that some servers send under that name.
enum Deflate<R> {
    /// Too little has come to tell which.
    Start {
        reader: Option<R>,
        first: [u8; 2],
        have: usize,
    },
    Data {
        reader: io::Chain<Cursor<[u8; 2]>, R>,
        inflate: Decompress,
        ended: bool,
    },
}

impl<R: BufRead> Deflate<R> {
    fn new(reader: R) -> Self {
        Self::Start { reader: Some(reader), first: [0; 2], have: 0 }
    }
}

impl<R: BufRead> Read for Deflate<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if let Self::Start { reader: source, first, have } = self {
            let mut reader = source.take().ok_or(ErrorKind::InvalidData)?;
            while *have < first.len() {
                match reader.read(first.get_mut(*have..).unwrap_or_default()) {
                    Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                    Ok(bytes) => *have += bytes,
                    Err(error) => {
                        *source = Some(reader);
                        return Err(error);
                    }
                }
            }
            // RFC 1950 §2.2: the method in the low bits, and a checksum over both bytes.
            let zlib = first[0] & 0x0f == 8 && u16::from_be_bytes(*first) % 31 == 0;
            let reader = Read::chain(Cursor::new(*first), reader);
            *self = Self::Data { reader, inflate: Decompress::new(zlib), ended: false };
        }
        let Self::Data { reader, inflate, ended } = self else { return Ok(0) };
        loop {
            let input = reader.fill_buf()?;
            let last = input.is_empty();
            if *ended {
                // What follows the end is not part of it.
                return if last { Ok(0) } else { Err(ErrorKind::InvalidData.into()) };
            }
            let (before_in, before_out) = (inflate.total_in(), inflate.total_out());
            let flush = if last { FlushDecompress::Finish } else { FlushDecompress::None };
            let status = inflate.decompress(input, to, flush).map_err(|_| ErrorKind::InvalidData)?;
            reader.consume(usize::try_from(inflate.total_in() - before_in).unwrap_or_default());
            let given = usize::try_from(inflate.total_out() - before_out).unwrap_or_default();
            *ended = status == Status::StreamEnd;
            if given > 0 || to.is_empty() {
                return Ok(given);
            }
            if last && !*ended {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{
        Compression,
        write::{DeflateEncoder, GzEncoder, ZlibEncoder},
    };

    use super::*;

    const LIMIT: usize = 1 << 20;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(data: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn raw(data: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    /// The content, fed in pieces; and how many steps it took.
    fn decode(codings: &[Coding], coded: &[u8], piece: usize) -> io::Result<(Vec<u8>, usize)> {
        let mut decoder = Decoder::new(codings, LIMIT);
        let (mut content, mut pieces) = (Vec::new(), coded.chunks(piece));
        for steps in 1.. {
            match decoder.step()? {
                Step::Part(part) => {
                    assert!(part.len() <= STEP);
                    content.extend_from_slice(&part);
                }
                Step::Hungry => match pieces.next() {
                    Some(piece) => decoder.push(Bytes::copy_from_slice(piece)),
                    None => decoder.finish(),
                },
                Step::Busy => {}
                Step::End => return Ok((content, steps)),
            }
        }
        unreachable!()
    }

    fn header(values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (CONTENT_ENCODING, http::HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn names_are_read_as_the_rfc_has_them() {
        use Coding::{Deflate, Gzip};
        for (values, expected) in [
            (&[][..], Ok(vec![])),
            (&["identity"], Ok(vec![])),
            (&[" GZip "], Ok(vec![Gzip])),
            (&["x-gzip"], Ok(vec![Gzip])),
            (&["DEFLATE"], Ok(vec![Deflate])),
            (&["deflate,\tgzip"], Ok(vec![Deflate, Gzip])),
            (&["deflate", "identity, gzip,"], Ok(vec![Deflate, Gzip])),
            (&["br"], Err("br".to_owned())),
            (&["gzip, zstd"], Err("zstd".to_owned())),
            (&["gzip,gzip,gzip,gzip,gzip"], Err("more than four at once".to_owned())),
        ] {
            assert_eq!(codings(&header(values)), expected, "{values:?}");
        }
    }

    #[test]
    fn every_coding_is_undone_in_pieces_of_any_size() {
        use Coding::{Deflate, Gzip};
        let text: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        for (codings, coded) in [
            (&[Gzip][..], gzip(&text)),
            (&[Deflate], zlib(&text)),
            (&[Deflate], raw(&text)),
            (&[Deflate, Gzip], gzip(&zlib(&text))),
            (&[Gzip, Gzip], gzip(&gzip(&text))),
            (&[Gzip, Deflate], raw(&gzip(&text))),
            (&[Gzip], [gzip(&text[..9]), gzip(b""), gzip(&text[9..])].concat()),
        ] {
            for piece in [1, 7, 16_384, usize::MAX] {
                let (content, _) = decode(codings, &coded, piece).unwrap();
                assert!(content == text, "{codings:?} in pieces of {piece}");
            }
        }
        assert_eq!(decode(&[Gzip], b"", 1).unwrap().0, b"");
        assert_eq!(decode(&[Deflate], &raw(b""), 1).unwrap().0, b"");
    }

    #[test]
    fn broken_data_is_told() {
        use Coding::{Deflate, Gzip};
        let text = b"some text that is long enough to be cut";
        for (codings, coded) in [
            (&[Gzip][..], b"plain text".to_vec()),
            (&[Gzip], b"p".to_vec()),
            (&[Deflate], b"plain text".to_vec()),
            (&[Deflate], b"x".to_vec()),
            (&[Gzip], [gzip(text), b"rest".to_vec()].concat()),
            (&[Deflate], [zlib(text), b"rest".to_vec()].concat()),
            (&[Deflate], [raw(text), b"rest".to_vec()].concat()),
        ] {
            for piece in [1, usize::MAX] {
                assert!(decode(codings, &coded, piece).is_err(), "{codings:?} {coded:?}");
            }
        }
        for (coding, coded) in [(Gzip, gzip(text)), (Deflate, zlib(text)), (Deflate, raw(text))] {
            for length in 1..coded.len() {
                assert!(decode(&[coding], &coded[..length], usize::MAX).is_err(), "{coding:?} cut to {length}");
            }
        }
    }

    #[test]
    fn a_bomb_costs_what_a_step_costs() {
        // Gigabytes that come to nothing: each of the inner members is empty.
        let empties = gzip(b"").repeat(200_000);
        let bomb = gzip(&empties);
        assert!(bomb.len() < 64 << 10);
        let mut decoder = Decoder::new(&[Coding::Gzip, Coding::Gzip], LIMIT);
        decoder.push(bomb.into());
        decoder.finish();
        let mut steps = 0;
        let error = loop {
            match decoder.step() {
                Ok(Step::Busy) => steps += 1,
                Ok(other) => panic!("{other:?}"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::FileTooLarge);
        assert!((LIMIT / BETWEEN - 1..=LIMIT / BETWEEN + 1).contains(&steps), "{steps}");
    }
}
