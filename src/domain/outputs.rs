//! What of a task's results is shown: identifiers, names and URIs, and what the connection's owner lists; secrets never.
//!
//! Whoever may read a `TaskWatch` need not be one who may read Secrets, and an upstream's results hold passwords and kubeconfigs.

use std::{borrow::Cow, collections::HashSet, sync::Arc};

use percent_encoding::percent_decode_str;
use url::{Url, form_urlencoded};

use super::{
    task::{MAX_OUTPUTS, OUTPUT_BYTES},
    text::{VALUE, WORD, clean_option},
};

/// What a secret is shown as where a gap would change the meaning of what is around it.
pub const HIDDEN: &str = "[hidden]";

/// Longest identifier or name that is shown unasked, in characters; URIs may be as long as any value.
const NAME: usize = 128;

/// Names that stand for an identifier, a name or a link by themselves, in lower case.
const NAMES: &[&str] = &[
    "id",
    "name",
    "uri",
    "url",
    "href",
    "link",
    "self",
    "selflink",
    "urn",
    "arn",
    "crn",
    "uuid",
    "guid",
    "resourcename",
];
/// Endings of names that do.
const ENDINGS: &[&str] = &[
    "_id", "Id", "ID", "_uuid", "Uuid", "UUID", "_uri", "Uri", "URI", "_url", "Url", "URL", "_urn", "Urn", "URN",
    "_name", "Name", "_link", "Link", "_href", "Href",
];
/// Parts of names whose values are secrets; compared in lower case, letters and digits alone.
const SECRET_NAMES: &[&str] = &[
    "pass",
    "pwd",
    "secret",
    "token",
    "credential",
    "creds",
    "private",
    "kubeconfig",
    "apikey",
    "accesskey",
    "authkey",
    "sshkey",
    "signingkey",
    "encryptionkey",
    "masterkey",
    "accountkey",
    "sharedkey",
    "licensekey",
    "session",
    "cookie",
    "bearer",
    "jwt",
    "authorization",
    "signature",
    "connectionstring",
];
/// Parameters of a URL that let in whoever has it, beside those above; in lower case.
const SIGNED: &[&str] = &["sig", "sign", "key", "auth", "code", "hmac", "policy", "sas", "se", "sp", "sv"];
/// Beginnings of such parameters: presigned links of object stores.
const SIGNED_PREFIXES: &[&str] =
    &["x-amz-", "x-goog-", "x-obs-", "x-cos-", "x-oss-", "ossaccess", "googleaccess", "awsaccess"];
/// How the tokens of well-known systems begin, and JSON in base64, as that of a JSON Web Token.
const TOKEN_PREFIXES: &[&str] = &[
    "eyJ",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "xoxa-",
    "hvs.",
    "hvb.",
    "gAAAA",
];

/// Shortest text after a token's beginning that makes it one.
const TOKEN: usize = 16;
/// Shortest run of letters and digits that is taken for a blob of base64 or hex: a UUID without dashes has 32, as a Huawei Cloud ID has.
const BLOB: usize = 40;
/// Shortest run of mixed letters and digits that is taken for random.
const RANDOM: usize = 30;

/// Which results a connection shows.
#[derive(Clone, Debug, Default)]
pub struct Outputs {
    /// Names that its owner lists (`spec.outputs`).
    listed: Arc<HashSet<String>>,
}

impl Outputs {
    /// Identifiers, names and URIs, and the results with these names.
    #[must_use]
    pub fn with(listed: &[String]) -> Self {
        Self { listed: Arc::new(listed.iter().cloned().collect()) }
    }

    /// Those of `fields` that are shown, cleaned: at most [`MAX_OUTPUTS`] and [`OUTPUT_BYTES`], the listed ones first.
    #[must_use]
    pub fn of<'a>(&self, fields: impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> + Clone) -> Vec<(String, String)> {
        let listed = fields.clone().filter(|(name, value)| self.lists(name) && !is_secret(name, value));
        let others = fields.filter(|(name, value)| !self.lists(name) && is_plain(name, value));
        let mut room = OUTPUT_BYTES;
        let mut shown = Vec::new();
        for (name, value) in listed.chain(others) {
            let (Some(name), Some(value)) = (clean_option(&name, WORD), clean_option(&value, VALUE)) else { continue };
            let Some(left) = room.checked_sub(name.len() + value.len()) else { continue };
            if shown.len() < MAX_OUTPUTS {
                room = left;
                shown.push((name, value));
            }
        }
        shown.shrink_to_fit();
        shown
    }

    /// By its whole name, or by the last part of it.
    fn lists(&self, name: &str) -> bool {
        self.listed.contains(name) || self.listed.contains(last(name))
    }
}

/// The part of a name that is the field's own: `id` of `cluster.id`.
fn last(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(_, last)| last)
}

/// Whether a result is an identifier, a name or a URI by its name and by its value, and no secret.
#[must_use]
pub fn is_plain(name: &str, value: &str) -> bool {
    let own = last(name);
    let by_name =
        NAMES.iter().any(|known| own.eq_ignore_ascii_case(known)) || ENDINGS.iter().any(|end| own.ends_with(end));
    by_name && looks_plain(value.trim()) && !is_secret(name, value)
}

fn looks_plain(value: &str) -> bool {
    let is_uri = value.starts_with('/') || value.contains("://");
    let may_be = |c: char| c.is_alphanumeric() || " ._:/@+~-()#,".contains(c) || is_uri && "%?&=;!*'$[]".contains(c);
    let is_short = if is_uri { value.len() <= VALUE } else { value.chars().count() <= NAME };
    !value.is_empty() && is_short && value.chars().all(may_be)
}

/// Whether a value must not be shown, by its name or by its looks.
#[must_use]
pub fn is_secret(name: &str, value: &str) -> bool {
    is_secret_name(name) || looks_secret(value)
}

fn is_secret_name(name: &str) -> bool {
    let name: String = name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    let certificate_key =
        || name.find("cert").is_some_and(|at| name.get(at..).is_some_and(|rest| rest.contains("key")));
    SECRET_NAMES.iter().any(|part| name.contains(part)) || certificate_key()
}

/// Whether a value looks like a private key, a token, a kubeconfig, a blob, or a link that lets in whoever has it.
#[must_use]
pub fn looks_secret(value: &str) -> bool {
    let value = value.trim();
    let decoded = percent_decode_str(value).decode_utf8_lossy();
    is_document(&decoded)
        || is_scheme(&decoded)
        || decoded.split(|c: char| !(c.is_ascii_alphanumeric() || "+/=_-.~".contains(c))).any(is_token)
        || link_lets_in(value)
        || decoded.split([' ', ',', ';', '&', '\n']).any(is_assignment)
        || has_secret_member(&decoded)
}

/// `"password": …` within JSON, or a line of YAML.
fn has_secret_member(value: &str) -> bool {
    let mut quoted = value.split('"');
    let _ = quoted.next();
    let parts: Vec<_> = quoted.collect();
    let in_json = parts.windows(2).any(|pair| match pair {
        [name, after] => after.trim_start().starts_with(':') && is_secret_name(name),
        _ => false,
    });
    let mut lines = value.lines().filter_map(|line| line.trim_start_matches([' ', '-']).split_once(':'));
    in_json || value.contains('\n') && lines.any(|(name, rest)| !rest.trim().is_empty() && is_secret_name(name))
}

/// `password=…`
fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, value)| !value.is_empty() && is_secret_name(name))
}

/// PEM, or a kubeconfig as YAML or JSON.
fn is_document(value: &str) -> bool {
    let says = |text: &str| value.contains(text);
    says("-----BEGIN")
        || says("client-key-data")
        || says("client-certificate-data")
        || says("apiVersion") && (says("clusters") || says("current-context"))
}

/// What stands in the header field `Authorization`.
fn is_scheme(value: &str) -> bool {
    let Some((scheme, rest)) = value.split_once(' ') else { return false };
    ["bearer", "basic"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) && rest.trim().len() >= TOKEN / 2
}

fn is_token(word: &str) -> bool {
    let after = |prefix: &&str| word.strip_prefix(*prefix).is_some_and(|rest| rest.len() >= TOKEN);
    let is_path = word.starts_with('/');
    let runs = |cuts: &'static str| word.split(move |c: char| cuts.contains(c));
    TOKEN_PREFIXES.iter().any(after)
        || runs("-_./~").any(|run| run.len() >= BLOB)
        || runs(if is_path { "./~" } else { ".~" }).any(is_random)
}

/// Whether letters and digits change as they do by chance: in names they come in runs.
fn is_random(run: &str) -> bool {
    let kind = |byte: u8| match byte {
        b'a'..=b'z' => 0,
        b'A'..=b'Z' => 1,
        b'0'..=b'9' => 2,
        _ => 3,
    };
    let kinds: Vec<u8> = run.bytes().map(kind).collect();
    let all = (0..3).all(|kind| kinds.contains(&kind));
    let changes = kinds.windows(2).filter(|pair| matches!(pair, [a, b] if a != b)).count();
    all && run.len() >= RANDOM && changes * 100 >= run.len() * 38
}

/// Whether a link has a user's name, or a parameter that signs it.
fn link_lets_in(value: &str) -> bool {
    value.split_whitespace().any(|word| {
        let absolute = Url::parse(word).ok();
        let has_user = absolute.as_ref().is_some_and(|url| !url.username().is_empty() || url.password().is_some());
        let authority = word.split_once("//").map_or("", |(_, rest)| rest).split(['/', '?', '#']).next();
        has_user || authority.is_some_and(|authority| authority.contains('@')) || parameters(word).any(signs)
    })
}

/// The parameters of a link's query and fragment.
fn parameters(link: &str) -> impl Iterator<Item = (String, String)> {
    let parts = link.split(['?', '#', ';']).skip(1);
    parts.flat_map(|part| form_urlencoded::parse(part.as_bytes()).into_owned().collect::<Vec<_>>())
}

fn signs((name, value): (String, String)) -> bool {
    let name = name.to_ascii_lowercase();
    !value.is_empty()
        && (SIGNED.contains(&name.as_str())
            || SIGNED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            || is_secret_name(&name))
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::{Outputs, is_plain, is_secret, link_lets_in, looks_secret};
    use crate::domain::task::{MAX_OUTPUTS, OUTPUT_BYTES};

    const UUID: &str = "ae1e6561-9e22-406c-8a5a-762f4604da00";

    #[test]
    fn a_link_that_lets_in_is_found_among_other_words() {
        assert!(link_lets_in("see https://me:word@h.example/x for more"));
        assert!(!link_lets_in("see https://h.example/x for more"));
    }

    #[test]
    fn identifiers_names_and_links_are_shown() {
        for (name, value) in [
            ("volume_id", UUID),
            ("server_id", "4010a32d535527910153552b492c0002"),
            ("clusterId", "c1"),
            ("id", "i-0abc123def4567890"),
            ("name", "prod cluster (eu), #2"),
            ("vm.displayName", "база-1"),
            ("snapshot_name", "autobk_snapshot_2016-03-08T07:40:13"),
            ("image_name", "CentOS-7.9-x86_64_GPU_Driver_Tesla"),
            ("resourceURI", "/accounts/fdaa655c-15ab-4d34-aa61-1e9098e67be0/k8s/v1/apps/7c8bef49/appSnaps/5cb608f9"),
            ("self_link", "https://compute.example.com/v1/projects/p/zones/z-1/instances/Web-1"),
            ("consoleUrl", "https://console.example.com/?region=eu-1&vm=7#details"),
            ("resourceName", "projects/my-project/locations/europe-west1/clusters/prod"),
            ("key_name", "ops-2024"),
        ] {
            assert!(is_plain(name, value), "{name}: {value}");
        }
    }

    #[test]
    fn anything_else_is_not_shown_unasked() {
        for (name, value) in [
            ("message", "done"),
            ("value", UUID),
            ("ip", "10.0.0.1"),
            ("id", ""),
            ("id", "{\"a\":1}"),
            ("id", "a<b>"),
            ("name", "x".repeat(129).as_str()),
            ("uri", format!("/{}", "x".repeat(512)).as_str()),
        ] {
            assert!(!is_plain(name, value), "{name}: {value}");
        }
    }

    #[test]
    fn secrets_are_never_shown() {
        for name in [
            "adminPass",
            "kubeadminPassword",
            "kubeconfig",
            "kube_config",
            "token",
            "access_token_id",
            "X-Auth-Token",
            "clientSecret",
            "secret_name",
            "credential.id",
            "credentials_uri",
            "privateKey",
            "private_key_id",
            "certificate_private_key",
            "certKeyName",
            "cert_pem_key",
            "api-key",
            "apiKeyId",
            "access_key_id",
            "sessionID",
            "db.passwd",
            "PWD",
        ] {
            assert!(is_secret(name, "x"), "{name}");
            assert!(!is_plain(name, "x"), "{name}");
        }
        let long = "aB3".repeat(14);
        for value in [
            "-----BEGIN RSA PRIVATE KEY----- MIIE",
            "-----BEGIN%20PRIVATE%20KEY-----",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln",
            "see eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln, please",
            "apiVersion: v1 clusters: - cluster: server: https://h",
            "{\"apiVersion\":\"v1\",\"kind\":\"Config\",\"current-context\":\"a\"}",
            "client-key-data: LS0t",
            long.as_str(),
            "0123456789abcdef0123456789abcdef01234567",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "MFyfvK41ba2giqM7Uio6PznpdUKGpownRZlmVmHc",
            "gAAAAABk3xyzABCDEFGHIJ-_klmnop",
            "ghp_abcdefghijklmnop1234",
            "Bearer abcdefgh12",
            "Basic Y2lkOnNlY3JldA==",
            "https://user:pw@host/x",
            "https://user@host/x",
            "postgres://u:p@db/x",
            "//user:pw@host/x",
            "https://host/x?X-Amz-Signature=abc",
            "https://host/x?a=1&sig=abc",
            "https://host/x?%74oken=abc",
            "https://host/x#access_token=abc",
            "/x?password=abc",
            "user=a, password=abc",
            "{\"user\":\"a\",\"password\" : \"abc\"}",
            "user: a\n  password: abc",
            "https://obs.example/b/o?AccessKeyId=AK&Expires=1&Signature=abc",
        ] {
            assert!(looks_secret(value), "{value}");
            assert!(!is_plain("id", value), "{value}");
        }
    }

    fn shown(outputs: &Outputs, fields: &[(&str, &str)]) -> Vec<String> {
        let fields = fields.iter().map(|(name, value)| (Cow::Borrowed(*name), Cow::Borrowed(*value)));
        outputs.of(fields).into_iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn the_owner_may_list_more_but_no_secret() {
        let listed = ["ip", "size", "adminPass", "note", "network.cidr"].map(str::to_owned);
        let fields = [
            ("volume_id", UUID),
            ("ip", "10.0.0.1"),
            ("vm.size", "7"),
            ("network.cidr", "10.0.0.0/16"),
            ("adminPass", "hunter2"),
            ("note", "-----BEGIN PRIVATE KEY-----"),
            ("zone", "z1"),
        ];
        assert_eq!(shown(&Outputs::default(), &fields), [format!("volume_id={UUID}")]);
        let expected = ["ip=10.0.0.1", "vm.size=7", "network.cidr=10.0.0.0/16", &format!("volume_id={UUID}")];
        assert_eq!(shown(&Outputs::with(&listed), &fields), expected);
    }

    #[test]
    fn they_are_bounded_in_number_and_bytes() {
        let fields: Vec<_> = (0..100).map(|n| (format!("n{n:03}_id"), "x-".repeat(64))).collect();
        let all = fields.iter().map(|(name, value)| (Cow::Borrowed(name.as_str()), Cow::Borrowed(value.as_str())));
        let shown = Outputs::default().of(all);
        let bytes: usize = shown.iter().map(|(name, value)| name.len() + value.len()).sum();
        assert!(bytes <= OUTPUT_BYTES && bytes > OUTPUT_BYTES - 200, "{bytes}");
        let few = (0..100).map(|n| (Cow::Owned(format!("n{n}_id")), Cow::Borrowed("x")));
        assert_eq!(Outputs::default().of(few).len(), MAX_OUTPUTS);
    }
}
