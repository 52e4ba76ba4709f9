//! Which addresses may be reached, by whom, and in which words one that may not is refused.

use super::*;

fn policy(allowed: &[&str], api_server: &[&str]) -> EgressPolicy {
    let allowed = allowed.iter().map(|net| net.parse().unwrap()).collect();
    EgressPolicy::new(allowed, api_server.iter().map(|at| at.parse().unwrap()).collect())
}

fn check_at(policy: &EgressPolicy, ip: IpAddr, port: u16) -> Result<(), Denied> {
    let tenant = Tenant::namespace(&Arc::from("team-a"));
    policy.check(Target { ip, port, https: true, tenant: &tenant })
}

fn check(policy: &EgressPolicy, ip: &str) -> Result<(), Denied> {
    check_at(policy, ip.parse().unwrap(), 443)
}

const PUBLIC: [&str; 14] = [
    "1.1.1.1",
    "8.8.8.8",
    "100.63.255.255",
    "100.128.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "169.253.0.1",
    "198.20.0.1",
    "223.255.255.255",
    "2606:4700::1111",
    "2a00:1450::1",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2002:808:808::1",
];

const SPECIAL: [&str; 38] = [
    "10.0.0.1",
    "10.255.255.255",
    "172.16.0.0",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.1.1",
    "192.0.0.8",
    "192.0.2.1",
    "198.51.100.1",
    "203.0.113.1",
    "192.88.99.1",
    "198.18.0.1",
    "198.19.255.255",
    "240.0.0.1",
    "::1",
    "fc00::1",
    "fdff::1",
    "fe80::1",
    "fec0::1",
    "2001:db8::1",
    "3fff::1",
    "2001:1::1",
    "100::1",
    "5f00::1",
    "4000::1",
    "64:ff9b:1::1",
    "::ffff:127.0.0.1",
    "::ffff:10.1.2.3",
    "::10.1.2.3",
    "64:ff9b::192.168.0.1",
    "2002:a00:1::1",
    "2002:7f00:1::",
    // Teredo: the last 32 bits inverted are 10.0.0.1 and 127.0.0.1.
    "2001:0:0:0:0:0:f5ff:fffe",
    "2001:0:808:808:0:0:80ff:fffe",
];

#[test]
fn public_addresses_are_free_and_special_ones_must_be_allowed() {
    let closed = policy(&[], &[]);
    for ip in PUBLIC {
        assert_eq!(check(&closed, ip), Ok(()), "{ip}");
    }
    let open = policy(&["0.0.0.0/0", "::/0"], &[]);
    for ip in SPECIAL {
        assert!(matches!(check(&closed, ip), Err(Denied::NotAllowed { .. })), "{ip}");
        assert_eq!(check(&open, ip), Ok(()), "{ip}");
    }
}

#[test]
fn an_allowance_is_as_wide_as_its_network() {
    let policy = policy(&["10.1.0.0/16", "fd00:1::/32"], &[]);
    for (ip, allowed) in [
        ("10.1.255.255", true),
        ("10.2.0.0", false),
        ("::ffff:10.1.0.1", true),
        ("64:ff9b::10.1.0.1", true),
        ("fd00:1::5", true),
        ("fd00:2::5", false),
    ] {
        assert_eq!(check(&policy, ip).is_ok(), allowed, "{ip}");
    }
    // A wide IPv6 network does not let IPv4 in by the back door.
    assert!(check(&self::policy(&["::/0"], &[]), "::ffff:127.0.0.1").is_err());
}

#[test]
fn some_addresses_cannot_be_allowed() {
    let open = policy(&["0.0.0.0/0", "::/0", "0.0.0.0/32"], &[]);
    let all = ["0.0.0.0", "0.1.2.3", "::", "255.255.255.255", "224.0.0.1", "239.1.1.1", "ff02::1", "::ffff:0.0.0.0"];
    for ip in all {
        assert!(matches!(check(&open, ip), Err(Denied::Never { .. })), "{ip}");
    }
}

#[test]
fn metadata_services_must_be_named_exactly() {
    let open = policy(&["0.0.0.0/0", "::/0", "169.254.169.254/31"], &[]);
    for ip in METADATA {
        assert_eq!(check_at(&open, ip, 80), Err(Denied::Metadata { ip }));
        let exact = policy(&[&IpNet::from(ip).to_string()], &[]);
        assert_eq!(check_at(&exact, ip, 80), Ok(()));
    }
    for ip in ["::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::"] {
        assert!(matches!(check(&open, ip), Err(Denied::Metadata { .. })), "{ip}");
    }
}

#[test]
fn the_api_server_is_out_of_reach_by_any_name() {
    let policy = policy(&["0.0.0.0/0", "::/0"], &["10.96.0.1:443", "127.0.0.1:6443", "[::ffff:8.8.8.8]:443"]);
    for (ip, port, allowed) in [
        ("10.96.0.1", 443, false),
        ("::ffff:10.96.0.1", 443, false),
        ("10.96.0.1", 8443, true),
        ("127.0.0.1", 6443, false),
        ("127.9.9.9", 6443, false),
        ("::1", 6443, false),
        ("127.0.0.1", 8080, true),
        ("8.8.8.8", 443, false),
    ] {
        let verdict = check_at(&policy, ip.parse().unwrap(), port);
        assert_eq!(verdict.is_ok(), allowed, "{ip}:{port}");
        assert!(allowed || matches!(verdict, Err(Denied::ApiServer { .. })), "{ip}:{port}");
    }
}

#[test]
fn what_is_ruled_out_is_so_whatever_is_allowed() {
    let policy = policy(&["0.0.0.0/0", "10.1.2.3"], &[])
        .with(vec!["10.1.0.0/16".parse().unwrap(), "8.8.8.0/24".parse().unwrap()], true);
    for ip in ["10.1.2.3", "::ffff:10.1.9.9", "8.8.8.8", "64:ff9b::8.8.8.8"] {
        assert!(matches!(check(&policy, ip), Err(Denied::Listed { .. })), "{ip}");
    }
    assert_eq!(check(&policy, "10.2.0.1"), Ok(()));
    assert_eq!(check(&policy, "8.8.4.4"), Ok(()));
}

#[test]
fn http_is_for_private_addresses_unless_it_is_allowed() {
    let tenant = Tenant::namespace(&Arc::from("team-a"));
    let closed = policy(&["10.0.0.0/8"], &[]);
    let http = |policy: &EgressPolicy, ip: &str| {
        policy.check(Target { ip: ip.parse().unwrap(), port: 80, https: false, tenant: &tenant })
    };
    assert_eq!(http(&closed, "8.8.8.8"), Err(Denied::Insecure));
    assert_eq!(http(&closed, "10.1.2.3"), Ok(()));
    assert_eq!(http(&closed.clone().with(vec![], true), "8.8.8.8"), Ok(()));
}

#[test]
fn an_allowance_may_be_for_some_ports_and_namespaces() {
    let policy = policy(&["10.0.0.0/8:443+8443@team-a", "10.9.0.0/16:10250@team-a"], &[]);
    let check = |ip: &str, port: u16, namespace: &str| {
        let tenant = Tenant::namespace(&Arc::from(namespace));
        policy.check(Target { ip: ip.parse().unwrap(), port, https: true, tenant: &tenant }).is_ok()
    };
    assert!(check("10.0.0.1", 443, "team-a") && check("10.9.0.1", 10_250, "team-a"));
    assert!(
        !check("10.0.0.1", 444, "team-a") && !check("10.0.0.1", 443, "team-b") && !check("10.0.0.1", 10_250, "team-a")
    );
}

#[test]
fn the_endpoints_of_the_api_server_are_out_of_reach_once_they_are_known() {
    let policy = policy(&["0.0.0.0/0"], &["10.96.0.1:443"]);
    let other = policy.clone();
    assert_eq!(check_at(&policy, [203, 0, 113, 7].into(), 6443), Ok(()));
    other.set_api_server_endpoints(vec!["[::ffff:203.0.113.7]:6443".parse().unwrap()]);
    assert!(matches!(check_at(&policy, [203, 0, 113, 7].into(), 6443), Err(Denied::ApiServer { .. })));
    assert!(matches!(check_at(&policy, [10, 96, 0, 1].into(), 443), Err(Denied::ApiServer { .. })));
    other.set_api_server_endpoints(vec![]);
    assert_eq!(check_at(&policy, [203, 0, 113, 7].into(), 6443), Ok(()));
}

#[test]
fn names_that_a_proxy_resolves_are_no_names_of_the_cluster() {
    let policy = policy(&[], &[]);
    for name in [
        "kubernetes",
        "kubernetes.default.svc",
        "a.b.SVC.cluster.local.",
        "localhost",
        "x.localhost",
        "metadata.google.internal",
    ] {
        assert_eq!(policy.check_name(name, true), Err(Denied::LocalName), "{name}");
    }
    assert_eq!(policy.check_name("api.example.com", true), Ok(()));
    assert_eq!(policy.check_name("api.example.com", false), Err(Denied::Insecure));
}

#[test]
fn the_message_says_what_to_do() {
    let closed = policy(&[], &[]);
    assert_eq!(
        check(&closed, "::ffff:10.0.0.5").unwrap_err().to_string(),
        "10.0.0.5 is a private address, which the operator does not connect to at port 443 for this namespace; if it is the right \
         one, add 10.0.0.5/32 or its network to the operator's --allow-egress"
    );
    let metadata = check(&closed, "169.254.169.254").unwrap_err().to_string();
    assert!(metadata.ends_with("only when its --allow-egress names exactly 169.254.169.254/32"), "{metadata}");
}
