//! Paths of requests.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// All but the unreserved characters of RFC 3986 §2.3.
pub const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// `text` as one segment of a path: nothing in it can begin another segment, a query or a fragment.
///
/// URL parsers take `.` and `..`, and their encoded forms, for steps through the path (WHATWG URL §4.4). Those are encoded twice:
/// that names nothing upstream, and leads nowhere else.
#[must_use]
pub fn segment(text: &str) -> String {
    if text == "." || text == ".." {
        text.replace('.', "%252E")
    } else {
        utf8_percent_encode(text, RESERVED).to_string()
    }
}

/// Fills the `{}` of `template` with `values`, each as one segment.
#[must_use]
pub fn path(template: &str, values: &[&str]) -> String {
    let mut out = String::with_capacity(template.len() + 80);
    let mut values = values.iter();
    for (index, part) in template.split("{}").enumerate() {
        if index > 0 {
            out.push_str(&values.next().map(|value| segment(value)).unwrap_or_default());
        }
        out.push_str(part);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::path;

    #[test]
    fn no_identifier_leaves_its_segment() {
        for (id, expected) in [
            ("4010a32d535527910153552b492c0002", "/v1/p/jobs/4010a32d535527910153552b492c0002"),
            ("a/../b?c#d%2f", "/v1/p/jobs/a%2F..%2Fb%3Fc%23d%252f"),
            ("..", "/v1/p/jobs/%252E%252E"),
            (".", "/v1/p/jobs/%252E"),
            ("%2e%2E", "/v1/p/jobs/%252e%252E"),
            ("..\\..;x", "/v1/p/jobs/..%5C..%3Bx"),
            ("manual__2026-01-02T03:04:05+00:00", "/v1/p/jobs/manual__2026-01-02T03%3A04%3A05%2B00%3A00"),
            ("UPID:pve:0003:u@pam!t:", "/v1/p/jobs/UPID%3Apve%3A0003%3Au%40pam%21t%3A"),
            ("ZXJnb24=:b/c", "/v1/p/jobs/ZXJnb24%3D%3Ab%2Fc"),
            ("ж", "/v1/p/jobs/%D0%B6"),
        ] {
            let path = path("/v1/{}/jobs/{}", &["p", id]);
            assert_eq!(path, expected);
            let url = url::Url::parse("https://host/").unwrap().join(&path).unwrap();
            assert_eq!(url.path(), expected, "no URL parser changes it");
        }
    }
}
