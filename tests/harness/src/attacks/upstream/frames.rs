//! HTTP/2 by hand: frames that the protocol allows and that no client has a use for.

use anyhow::{Result, ensure};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The most that one frame of the operator may have.
const FRAME: usize = 1 << 20;
/// How many frames are written at a time.
const BATCH: usize = 1000;

/// What is sent without end, once the connection is up and a request has been answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Flood {
    Ping,
    Settings,
    WindowUpdate,
    Priority,
    Unknown,
    /// In place of the answer: DATA without data.
    EmptyData,
    /// In place of the answer: a head that never ends.
    Continuation,
    /// In place of the answer: informational heads.
    Informational,
}

impl Flood {
    /// Those that go on beside the answers.
    pub(in super::super) const BESIDE: [Self; 5] =
        [Self::Ping, Self::Settings, Self::WindowUpdate, Self::Priority, Self::Unknown];

    fn instead(self) -> bool {
        matches!(self, Self::EmptyData | Self::Continuation | Self::Informational)
    }

    fn unit(self, stream: u32) -> Vec<u8> {
        match self {
            Self::Ping => frame(6, 0, 0, &[7; 8]),
            Self::Settings => frame(4, 0, 0, &[]),
            // One byte more each: the window's end is never reached in a test.
            Self::WindowUpdate => frame(8, 0, 0, &1_u32.to_be_bytes()),
            Self::Priority => frame(2, 0, 1 << 20 | 1, &[0, 0, 0, 0, 16]),
            Self::Unknown => frame(0xfa, 0, 0, b"nothing"),
            Self::EmptyData => frame(0, 0, stream, &[]),
            // An indexed header field without a name that matters: `:status` is not repeated.
            Self::Continuation => frame(9, 0, stream, &literal("x", "y")),
            // END_HEADERS; `:status: 103`.
            Self::Informational => frame(1, 4, stream, &literal(":status", "103")),
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// HPACK: a literal field without indexing and without Huffman coding; both parts have fewer than 127 bytes.
fn literal(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).unwrap_or(126);
    [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
}

/// Answers every request with the same running job, and floods. `note` is called for each request.
pub(super) async fn serve(
    flood: Flood,
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    note: impl Fn(),
) -> Result<()> {
    let mut preface = [0; PREFACE.len()];
    stream.read_exact(&mut preface).await?;
    ensure!(preface == PREFACE, "no HTTP/2");
    stream.write_all(&frame(4, 0, 0, &[])).await?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let length = usize::try_from(u32::from_be_bytes([0, head[0], head[1], head[2]]))?;
        ensure!(length <= FRAME, "too long a frame");
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await?;
        let (kind, flags, id) = (head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]));
        match kind {
            // SETTINGS that are not acknowledged yet.
            4 if flags & 1 == 0 => stream.write_all(&frame(4, 1, 0, &[])).await?,
            // HEADERS: a request.
            1 => {
                note();
                begin(flood, stream, id).await?;
                return endless(flood, stream, id).await;
            }
            _ => {}
        }
    }
}

/// The first answer, or the beginning of one.
async fn begin(flood: Flood, stream: &mut (impl AsyncWrite + Unpin), id: u32) -> Result<()> {
    let fields = [vec![0x88], literal("content-type", "application/json")].concat();
    match flood {
        Flood::Informational => {}
        // Neither END_STREAM nor END_HEADERS.
        Flood::Continuation => stream.write_all(&frame(1, 0, id, &fields)).await?,
        Flood::EmptyData => stream.write_all(&frame(1, 4, id, &fields)).await?,
        _ => {
            let body = format!(r#"{{"job_id":"{JOB}","job_type":"createVolume","status":"RUNNING","entities":{{}}}}"#);
            stream.write_all(&[frame(1, 4, id, &fields), frame(0, 1, id, body.as_bytes())].concat()).await?;
        }
    }
    Ok(())
}

/// The identifier that every answer is about.
pub(in super::super) const JOB: &str = "the-one-and-only-job";

async fn endless(flood: Flood, stream: &mut (impl AsyncRead + AsyncWrite + Unpin), id: u32) -> Result<()> {
    debug_assert!(flood.instead() || Flood::BESIDE.contains(&flood));
    let units = flood.unit(id).repeat(BATCH);
    let (mut read, mut write) = tokio::io::split(stream);
    let drain = async {
        // What the operator says to it (acknowledgements, most of it) must not stop it.
        let mut rest = vec![0; 64 << 10];
        while read.read(&mut rest).await? > 0 {}
        anyhow::Ok(())
    };
    let flow = async {
        loop {
            write.write_all(&units).await?;
            write.flush().await?;
        }
        #[expect(unreachable_code, reason = "names the type of the error")]
        anyhow::Ok(())
    };
    tokio::select! {
        done = drain => done,
        done = flow => done,
    }
}
