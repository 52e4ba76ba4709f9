//! A name server: `*.test` is 127.0.0.1, unless the name begins with `slow`: then there is no answer, ever. Of all else it knows nothing.

use std::net::{Ipv4Addr, UdpSocket};

use anyhow::{Context as _, Result};
use tokio::runtime::Runtime;

/// Where resolvers look.
const PORT: u16 = 53;

/// A running one, on 127.0.0.1.
pub(super) struct NameServer {
    runtime: Option<Runtime>,
}

impl NameServer {
    pub(super) fn start() -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, PORT)).context("cannot listen on port 53")?;
        socket.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        runtime.spawn(async move {
            let Ok(socket) = tokio::net::UdpSocket::from_std(socket) else { return };
            let mut question = [0; 1500];
            while let Ok((length, peer)) = socket.recv_from(&mut question).await {
                if let Some(answer) = answer(&question[..length]) {
                    let _ = socket.send_to(&answer, peer).await;
                }
            }
        });
        Ok(Self { runtime: Some(runtime) })
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The answer to a question; none where there is to be silence.
fn answer(question: &[u8]) -> Option<Vec<u8>> {
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let length = usize::from(*question.get(at)?);
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(question.get(at + 1..at + 1 + length)?).to_ascii_lowercase());
        at += 1 + length;
    }
    let asked = question.get(12..at + 5)?;
    let kind = u16::from_be_bytes([question[at + 1], question[at + 2]]);
    if labels.first().is_some_and(|label| label.starts_with("slow")) {
        return None;
    }
    let known = labels.last().is_some_and(|label| label == "test") && labels.len() > 1;
    let has_address = known && kind == 1;
    // Response, authoritative, recursion; 3: there is no such name.
    let flags = [0x85, if known { 0x80 } else { 0x83 }];
    let mut reply = [&question[..2], &flags, &[0, 1, 0, u8::from(has_address), 0, 0, 0, 0], asked].concat();
    if has_address {
        // The name of the question, A, IN, 5 s, four bytes.
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 127, 0, 0, 1]);
    }
    Some(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(name: &str, kind: u8) -> Vec<u8> {
        let mut bytes = vec![1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            bytes.push(u8::try_from(label.len()).unwrap());
            bytes.extend(label.bytes());
        }
        bytes.extend([0, 0, kind, 0, 1]);
        bytes
    }

    #[test]
    fn slow_names_get_no_answer_and_others_do() {
        assert_eq!(answer(&question("slow7.a.test", 1)), None);
        let good = answer(&question("good.test", 1)).unwrap();
        assert_eq!((&good[..2], &good[good.len() - 4..]), (&[1, 2][..], &[127, 0, 0, 1][..]));
        let no_v6 = answer(&question("good.test", 28)).unwrap();
        assert_eq!((no_v6[3] & 15, no_v6[7]), (0, 0));
        assert_eq!(answer(&question("good.example", 1)).unwrap()[3] & 15, 3);
        assert_eq!(answer(&[0; 5]), None);
    }
}
