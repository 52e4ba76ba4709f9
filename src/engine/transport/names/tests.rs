use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use hickory_resolver::proto::{
    op::{Message, ResponseCode},
    rr::{RData, Record, RecordType, rdata::A},
};
use tokio::net::UdpSocket;

use super::*;

/// A DNS server: answers A queries by `answers` (none for silence), others with nothing; counts the queries.
struct Server {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

enum Reply {
    Addresses(Vec<Ipv4Addr>),
    Error(ResponseCode),
    Silence,
}

impl Server {
    async fn start(answers: impl Fn(&str) -> Reply + Send + 'static) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (address, asked) = (socket.local_addr().unwrap(), Arc::<AtomicUsize>::default());
        let counter = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut datagram = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut datagram).await {
                let query = Message::from_vec(&datagram[..length]).unwrap();
                let question = query.queries[0].clone();
                counter.fetch_add(1, Relaxed);
                let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
                reply.add_query(question.clone());
                match answers(&question.name().to_ascii()) {
                    Reply::Silence => continue,
                    Reply::Error(code) => reply.metadata.response_code = code,
                    Reply::Addresses(ips) if question.query_type() == RecordType::A => {
                        for ip in ips {
                            reply.add_answer(Record::from_rdata(question.name().clone(), 60, RData::A(A(ip))));
                        }
                    }
                    Reply::Addresses(_) => {}
                }
                socket.send_to(&reply.to_vec().unwrap(), from).await.unwrap();
            }
        });
        Self { address, asked }
    }

    /// A resolver that asks this server, by files in a directory that lives as long as it.
    fn names(&self, resolv_conf: &str, hosts: &str) -> (Names, Directory) {
        let directory = Directory::new();
        let text = format!("nameserver {}\n{resolv_conf}", self.address.ip());
        fs::write(directory.0.join("resolv.conf"), text).unwrap();
        fs::write(directory.0.join("hosts"), hosts).unwrap();
        let files = Files {
            resolv_conf: directory.0.join("resolv.conf"),
            hosts: directory.0.join("hosts"),
            port: self.address.port(),
        };
        (Names::new(files), directory)
    }
}

struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("taskwatch-names-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn tenant(name: &str) -> Tenant {
    Tenant::namespace(&Arc::from(name))
}

fn ips(list: &[&str]) -> Arc<[IpAddr]> {
    list.iter().map(|ip| ip.parse().unwrap()).collect()
}

fn zone(name: &str) -> Reply {
    match name.to_ascii_lowercase().as_str() {
        "api.example.test." => Reply::Addresses(vec![Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)]),
        "many.test." => Reply::Addresses((0..24).map(|last| Ipv4Addr::new(10, 0, 1, last)).collect()),
        "svc.ns.svc.cluster.local." => Reply::Addresses(vec![Ipv4Addr::new(10, 96, 0, 7)]),
        "empty.test." => Reply::Addresses(vec![]),
        "broken.test." => Reply::Error(ResponseCode::ServFail),
        name if name.contains("slow") => Reply::Silence,
        _ => Reply::Error(ResponseCode::NXDomain),
    }
}

#[tokio::test]
async fn names_are_resolved_by_hosts_search_list_and_dns() {
    let server = Server::start(zone).await;
    let search = "search ns.svc.cluster.local svc.cluster.local\noptions ndots:5";
    let (names, _files) = server.names(search, "# comment\n10.9.9.9  Static.test alias # more\n::9 alias\nnonsense\n");
    let tenant = tenant("a");
    for (name, expected) in [
        ("api.example.test", Ok(ips(&["10.0.0.1", "10.0.0.2"]))),
        ("api.example.test.", Ok(ips(&["10.0.0.1", "10.0.0.2"]))),
        ("svc", Ok(ips(&["10.96.0.7"]))),
        ("static.TEST.", Ok(ips(&["10.9.9.9"]))),
        ("alias", Ok(ips(&["10.9.9.9", "::9"]))),
        ("localhost", Ok(ips(&["127.0.0.1", "::1"]))),
        ("localhost.", Ok(ips(&["127.0.0.1", "::1"]))),
        // With a dot at its end it is a name of its own.
        ("svc.", Err(NameError::NoSuchName)),
        ("nobody.test", Err(NameError::NoSuchName)),
        ("empty.test.", Err(NameError::NoAddresses)),
    ] {
        assert_eq!(names.resolve(name, &tenant).await, expected, "{name}");
    }
    let broken = names.resolve("broken.test.", &tenant).await.unwrap_err();
    assert!(matches!(&broken, NameError::Server(code) if code.contains("Server Failure")), "{broken}");
    assert_eq!(names.resolve("many.test", &tenant).await.unwrap().len(), ADDRESSES);
}

#[tokio::test]
async fn an_answer_is_asked_for_once() {
    let server = Server::start(zone).await;
    let (names, _files) = server.names("", "");
    let all = (0..50).map(|index| {
        let names = names.clone();
        async move { names.resolve("api.example.test.", &tenant(&format!("t{index}"))).await }
    });
    for answer in futures::future::join_all(all).await {
        assert_eq!(answer.unwrap().len(), 2);
    }
    assert_eq!(server.asked.load(Relaxed), 2, "A and AAAA");
    assert!(names.resolve("nobody.test.", &tenant("a")).await.is_err());
    let asked = server.asked.load(Relaxed);
    assert!(names.resolve("nobody.test.", &tenant("b")).await.is_err());
    assert_eq!(server.asked.load(Relaxed), asked, "failures are kept, too");
}

#[tokio::test]
async fn names_that_are_slow_hold_up_no_other_tenant() {
    let server = Server::start(zone).await;
    let (names, _files) = server.names("", "");
    let start = Instant::now();
    let slow: Vec<_> = (0..1_500)
        .map(|index| {
            let names = names.clone();
            tokio::spawn(async move { names.resolve(&format!("slow{index}.test."), &tenant("attacker")).await })
        })
        .collect();
    tokio::task::yield_now().await;
    assert_eq!(names.resolve("api.example.test.", &tenant("canary")).await.unwrap().len(), 2);
    assert!(start.elapsed() < TIMEOUT / 2, "{:?}", start.elapsed());
    let mut busy = 0;
    for slow in slow {
        let error = slow.await.unwrap().unwrap_err();
        assert!(matches!(error, NameError::Busy | NameError::Timeout), "{error}");
        busy += usize::from(error == NameError::Busy);
    }
    assert!(busy > 1_000, "{busy}");
    assert!(start.elapsed() < TIMEOUT * 2, "{:?}", start.elapsed());
}

#[tokio::test]
async fn files_that_change_are_read_again() {
    let server = Server::start(zone).await;
    let (names, files) = server.names("", "10.0.0.1 host.test");
    assert_eq!(names.resolve("host.test", &tenant("a")).await, Ok(ips(&["10.0.0.1"])));
    fs::write(files.0.join("hosts"), "10.0.0.22 host.test").unwrap();
    tokio::time::pause();
    tokio::time::advance(FILES_EVERY.max(KEPT.0) + Duration::from_secs(1)).await;
    assert_eq!(names.resolve("host.test", &tenant("a")).await, Ok(ips(&["10.0.0.22"])));
    fs::remove_file(files.0.join("resolv.conf")).unwrap();
    tokio::time::advance(Duration::from_mins(10)).await;
    assert!(matches!(names.resolve("host.test", &tenant("a")).await, Err(NameError::Config(_))));
}

#[tokio::test(start_paused = true)]
async fn so_many_answers_are_kept_until_they_are_over() {
    let server = Server::start(zone).await;
    let (names, _files) = server.names("", "");
    let keep = |name: &str| {
        let found = Found { addresses: ips(&["10.0.0.1"]), life: Duration::from_secs(60) };
        names.keep(name.to_owned(), Ok(found)).unwrap();
        names.kept(name).is_some()
    };
    assert!((0..KEPT_NAMES).all(|number| keep(&format!("n{number}"))));
    assert!(!keep("more"));
    tokio::time::advance(Duration::from_secs(30)).await;
    assert!(keep("n0"), "one that is kept already is kept anew");
    tokio::time::advance(Duration::from_secs(30)).await;
    assert!(names.kept("n1").is_none(), "it is over");
    assert!(keep("more") && names.kept("n0").is_some());
    assert_eq!(names.lock().kept.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_kept_answer_waits_for_no_turn() {
    let server = Server::start(zone).await;
    let (names, _files) = server.names("", "");
    let found = Found { addresses: ips(&["10.0.0.1"]), life: Duration::from_secs(60) };
    names.keep("known.test".to_owned(), Ok(found)).unwrap();
    let mut turns = names.0.turns.lease(&tenant("a"));
    while turns.try_grow(1) {}
    assert_eq!(names.resolve("known.test", &tenant("a")).await, Ok(ips(&["10.0.0.1"])));
    assert_eq!(names.resolve("other.test", &tenant("a")).await, Err(NameError::Busy));
}

#[tokio::test]
async fn a_server_may_take_less_time_for_a_try_than_is_given_and_not_more() {
    for (said, timeout) in [("", TRY), ("options timeout:30", TRY), ("options timeout:1", Duration::from_secs(1))] {
        let resolv_conf = format!("nameserver 127.0.0.1\n{said}\n");
        let tables = Tables::new(resolv_conf.as_bytes(), b"", 53).unwrap();
        assert_eq!(tables.resolver.options().timeout, timeout, "{said}");
    }
}
