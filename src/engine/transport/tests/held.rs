//! What answers take up of the account that tenants share.

use super::*;

const PART: usize = 16 << 10;

/// A server whose answers have this body, and then wait.
async fn stalling(body: usize) -> SocketAddr {
    server(move |mut stream, _| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        let _ = stream.write_all(&vec![b'a'; body]).await;
        let _ = stream.read_u8().await;
    })
    .await
}

fn channel_of(transport: &Transport, tenant: &str, address: SocketAddr) -> Channel {
    let tenant = Tenant::namespace(&Arc::from(tenant));
    transport.channel(&tenant, &format!("http://{address}").parse().unwrap(), &TlsSettings::default()).unwrap()
}

fn request(address: SocketAddr) -> Outgoing {
    Outgoing { body_limit: 16 << 20, timeout: Duration::from_secs(2), ..outgoing(&format!("http://{address}/")) }
}

#[tokio::test]
async fn stalled_answers_of_one_tenant_hold_no_more_than_its_share() {
    let shares = shares(4 << 20);
    let policy = EgressPolicy::new(vec!["127.0.0.0/8".parse().unwrap()], vec![]);
    let transport = Transport::new(policy, None, shares.clone()).unwrap();
    let address = stalling(1 << 20).await;
    let greedy = channel_of(&transport, "greedy", address);
    let hung: Vec<_> = (0..20)
        .map(|_| {
            let greedy = greedy.clone();
            tokio::spawn(async move { sent(&greedy, request(address)).await })
        })
        .collect();
    let most = async {
        while shares.bodies.held() < 3 << 19 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(2), most).await.unwrap();
    // Another tenant is answered meanwhile.
    let modest = answering(http("200 OK", "", &vec![b'x'; 100_000])).await;
    let (answer, lease) = channel_of(&transport, "modest", modest).send(request(modest)).await.unwrap();
    assert_eq!((answer.body.len(), lease.held()), (100_000, 100_000));
    drop(lease);
    // Half of what is not kept for newcomers; the part that reaches it may pass it.
    assert!(shares.bodies.held() <= (7 << 18) + PART, "more than half is left to others");
    for hung in hung {
        let failure = hung.await.unwrap().unwrap_err();
        assert!(["Timeout", "Throttled"].contains(&failure.code.as_str()), "{failure}");
    }
    assert_eq!(shares.bodies.held(), 0, "all goes back");
}

#[tokio::test]
async fn whoever_reads_says_what_it_still_holds() {
    let shares = shares(4 << 20);
    let policy = EgressPolicy::new(vec!["127.0.0.0/8".parse().unwrap()], vec![]);
    let transport = Transport::new(policy, None, shares.clone()).unwrap();
    let address = answering(http("200 OK", "", &vec![b'x'; 3 << 20])).await;
    let (_, mut body) = channel_of(&transport, "a", address).open(request(address)).await.unwrap();
    let mut read = 0;
    while let Some(part) = body.next().await.unwrap() {
        read += part.len();
        body.hold(100);
        assert!(shares.bodies.held() < 100_000, "{}", shares.bodies.held());
    }
    assert_eq!(read, 3 << 20, "more than the tenant's share, which is never held at a time");
    drop(body);
    assert_eq!(shares.bodies.held(), 0);
}
