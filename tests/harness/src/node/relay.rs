//! A way in for people: a port of the machine's loopback interface that leads to the API server inside. Namespaces of the network have
//! nothing in common but files, so between the two halves stands a socket in the working directory.

use std::future::Future;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// The socket's name.
pub(super) const SOCKET: &str = "api.sock";

/// The outer half: takes connections until it is dropped.
pub(super) async fn forward(port: u16, socket: PathBuf) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.context("cannot listen for the API server")?;
    loop {
        let (outer, _) = listener.accept().await.context("cannot take connections for the API server")?;
        join(outer, UnixStream::connect(socket.clone()));
    }
}

/// The inner half, which listens when this returns, and takes connections to `url` while it is polled.
pub(super) fn serve(socket: &Path, url: &str) -> Result<impl Future<Output = Result<()>> + use<>> {
    let listener = UnixListener::bind(socket).with_context(|| format!("cannot listen on {}", socket.display()))?;
    let address = url.trim_start_matches("https://").to_owned();
    Ok(async move {
        loop {
            let (outer, _) = listener.accept().await.context("cannot take connections from outside")?;
            join(outer, TcpStream::connect(address.clone()));
        }
    })
}

/// Copies between the two, each way, until both have ended.
fn join<A, B>(mut outer: A, inner: impl Future<Output = std::io::Result<B>> + Send + 'static)
where
    A: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    B: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        if let Ok(mut inner) = inner.await {
            let _ = copy_bidirectional(&mut outer, &mut inner).await;
        }
    });
}

/// A kubeconfig by which the API server is reached through the port.
pub(super) fn outside(kubeconfig: &str, port: u16) -> Result<String> {
    let mut config = serde_json::from_str::<Value>(kubeconfig).context("the kubeconfig is no JSON")?;
    let cluster = &mut config["clusters"][0]["cluster"];
    cluster["server"] = json!(format!("https://127.0.0.1:{port}"));
    // Its certificate does not have the address.
    cluster["tls-server-name"] = json!("kubernetes.default.svc");
    Ok(config.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_said_outside_arrives_inside_and_the_answer_comes_back() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", server.local_addr().unwrap());
        let workdir = crate::Workdir::new("relay").unwrap();
        let (socket, port) = (workdir.path().join(SOCKET), crate::ports::free_port().unwrap());
        let inner = serve(&socket, &url).unwrap();
        let answer = async {
            let (mut stream, _) = server.accept().await.unwrap();
            let mut said = [0; 4];
            stream.read_exact(&mut said).await.unwrap();
            stream.write_all(&said).await.unwrap();
        };
        let ask = async {
            let mut stream = crate::eventually(std::time::Duration::from_secs(10), "the port is open", || async {
                Ok(TcpStream::connect(("127.0.0.1", port)).await?)
            })
            .await
            .unwrap();
            stream.write_all(b"ping").await.unwrap();
            let mut heard = String::new();
            stream.read_to_string(&mut heard).await.unwrap();
            heard
        };
        tokio::select! {
            (heard, ()) = async { tokio::join!(ask, answer) } => assert_eq!(heard, "ping"),
            ended = inner => panic!("the inner half ended: {ended:?}"),
            ended = forward(port, socket.clone()) => panic!("the outer half ended: {ended:?}"),
        }
    }

    #[test]
    fn a_kubeconfig_leads_through_the_port() {
        let inside = r#"{"clusters":[{"name":"c","cluster":{"server":"https://10.250.0.2:20001","certificate-authority":"/ca"}}]}"#;
        let outside = serde_json::from_str::<Value>(&outside(inside, 7).unwrap()).unwrap();
        let cluster = &outside["clusters"][0]["cluster"];
        assert_eq!(cluster["server"], "https://127.0.0.1:7");
        assert_eq!(cluster["certificate-authority"], "/ca");
        assert_eq!(cluster["tls-server-name"], "kubernetes.default.svc");
    }
}
