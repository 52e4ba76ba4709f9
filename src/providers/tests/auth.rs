use std::fmt::Write;

use http::{HeaderMap, Method};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::{answer, now, with_header};
use crate::{
    domain::failure::FailureClass,
    providers::auth::{Credential, Keystone, Project, Token, TokenStyle},
};

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

pub(super) fn keystone(endpoint: &str, project: Project) -> Credential {
    Credential::Keystone(Keystone {
        endpoint: url(endpoint),
        user: "robot\n".to_owned(),
        password: SecretString::from(" pass word \n"),
        domain: "acme".to_owned(),
        project,
    })
}

pub(super) fn cloud_ru(endpoint: &str) -> Credential {
    Credential::CloudRuKey {
        endpoint: url(endpoint),
        key_id: "key\n".to_owned(),
        secret: SecretString::from("s3cret\n"),
    }
}

pub(super) fn oauth2() -> Credential {
    Credential::OAuth2 {
        token_url: url("https://idp/token"),
        client_id: "me".to_owned(),
        client_secret: SecretString::from("s3:cret/\n"),
        scopes: vec!["read".to_owned(), "tasks".to_owned()],
    }
}

/// One credential of each kind that is exchanged for a token.
pub(super) fn exchanged() -> [Credential; 4] {
    [
        keystone("https://iam", Project::Id("p".to_owned())),
        cloud_ru("https://iam"),
        cloud_ru("https://auth/openid/token"),
        oauth2(),
    ]
}

fn body(credential: &Credential) -> String {
    String::from_utf8(credential.token_request().unwrap().body.to_vec()).unwrap()
}

#[test]
fn token_requests() {
    for (endpoint, expected) in [
        ("https://iam", "https://iam/v3/auth/tokens?nocatalog=true"),
        ("https://iam/v3", "https://iam/v3/auth/tokens?nocatalog=true"),
        ("https://iam/identity/v3/", "https://iam/identity/v3/auth/tokens?nocatalog=true"),
        ("https://iam/identity", "https://iam/identity/v3/auth/tokens?nocatalog=true"),
        ("https://iam/v3/auth/tokens", "https://iam/v3/auth/tokens?nocatalog=true"),
    ] {
        let request = keystone(endpoint, Project::Id("p1".to_owned())).token_request().unwrap();
        assert_eq!((request.url.as_str(), request.method), (expected, Method::POST));
    }
    insta::assert_snapshot!(body(&keystone("https://iam", Project::Id("p1".to_owned()))), @r#"{"auth":{"identity":{"methods":["password"],"password":{"user":{"domain":{"name":"acme"},"name":"robot","password":" pass word "}}},"scope":{"project":{"id":"p1"}}}}"#);
    let named = |domain| body(&keystone("https://iam", Project::Name { name: "eu-west-101".to_owned(), domain }));
    assert!(named(None).contains(r#""scope":{"project":{"domain":{"name":"acme"},"name":"eu-west-101"}}"#));
    assert!(named(Some("other".to_owned())).contains(r#""project":{"domain":{"name":"other"},"#));

    for (endpoint, expected, sent) in [
        ("https://iam.example", "https://iam.example/api/v1/auth/token", r#"{"keyId":"key","secret":"s3cret"}"#),
        (
            "https://iam.example/api/v1/auth/token",
            "https://iam.example/api/v1/auth/token",
            r#"{"keyId":"key","secret":"s3cret"}"#,
        ),
        (
            "https://auth.example/auth/system/openid/token",
            "https://auth.example/auth/system/openid/token",
            "grant_type=access_key&client_id=key&client_secret=s3cret",
        ),
    ] {
        assert_eq!(
            (cloud_ru(endpoint).token_request().unwrap().url.as_str(), body(&cloud_ru(endpoint)).as_str()),
            (expected, sent)
        );
    }

    let request = oauth2().token_request().unwrap();
    assert_eq!(body(&oauth2()), "grant_type=client_credentials&scope=read+tasks");
    assert_eq!(request.headers["authorization"], "Basic bWU6czMlM0FjcmV0JTJG");
    assert_eq!(request.headers["content-type"], "application/x-www-form-urlencoded");
    assert!(request.headers["authorization"].is_sensitive());
}

#[test]
fn the_size_of_a_credential_is_that_of_all_its_texts() {
    let plain = Credential::Token { value: SecretString::from("12345"), style: TokenStyle::Bearer };
    let access_key = |security_token| Credential::AccessKey {
        access: "123".to_owned(),
        secret: SecretString::from("12345"),
        security_token,
    };
    for (credential, size) in [
        (plain, 5),
        // The URL with the slash that is its path; what is kept is not trimmed.
        (keystone("https://iam", Project::Id("p".to_owned())), 12 + 6 + 12 + 4),
        (access_key(None), 3 + 5),
        (access_key(Some(SecretString::from("1234567"))), 3 + 5 + 7),
        (cloud_ru("https://iam"), 12 + 4 + 7),
        (oauth2(), 17 + 2 + 9 + (4 + 5)),
    ] {
        assert_eq!(credential.size(), size, "{credential:?}");
    }
}

#[test]
fn secrets_are_not_shown() {
    let shown = [keystone("https://iam", Project::Id("p".to_owned())), cloud_ru("https://iam"), oauth2()]
        .map(|credential| format!("{credential:?} {:?}", credential.token_request()))
        .concat();
    let token = Token { value: SecretString::from("s3cret"), expires: None };
    let shown = format!("{shown} {token:?}");
    for secret in ["pass word", "s3cret", "s3:cret", "bWU6"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn tokens() {
    let keystone = keystone("https://iam", Project::Id("p".to_owned()));
    let created = answer(201, r#"{"token":{"expires_at":"2026-01-03T03:04:05.701000Z","methods":["password"]}}"#);
    let token = keystone.decode_token(&with_header(created, "x-subject-token", "MIIabc"), now()).unwrap();
    assert_eq!((token.value.expose_secret(), token.expires), ("MIIabc", "2026-01-03T03:04:05.701Z".parse().ok()));

    let body = r#"{"access_token":"abc","id_token":"x","refresh_token":"","expires_in":3600,"refresh_expires_in":0,"scopes":[],"token_type":"Bearer","not_before":0}"#;
    let token = cloud_ru("https://iam").decode_token(&answer(200, body), now()).unwrap();
    assert_eq!((token.value.expose_secret(), token.expires), ("abc", "2026-01-02T04:04:05Z".parse().ok()));
    for (body, expires) in [
        (r#"{"access_token":"abc","expires_in":"60"}"#, "2026-01-02T03:05:05Z".parse().ok()),
        (r#"{"access_token":"abc"}"#, None),
        (r#"{"access_token":"abc","expires_in":0}"#, None),
        (r#"{"access_token":"abc","expires_in":9223372036854775807}"#, None),
    ] {
        assert_eq!(oauth2().decode_token(&answer(200, body), now()).unwrap().expires, expires, "{body}");
    }
}

#[test]
fn refusals() {
    let keystone = keystone("https://iam", Project::Id("p".to_owned()));
    let cloud_ru = cloud_ru("https://iam");
    let oauth2 = oauth2();
    let mut messages = String::new();
    for (credential, status, body, class) in [
        (
            &keystone,
            401,
            r#"{"error":{"code":401,"message":"The username or password is wrong.","title":"Unauthorized"}}"#,
            FailureClass::AuthenticationFailed,
        ),
        (
            &keystone,
            400,
            r#"{"error":{"code":400,"message":"malformed","title":"Bad Request"}}"#,
            FailureClass::InvalidRequest,
        ),
        (
            &keystone,
            403,
            r#"{"error":{"code":403,"message":"MFA needed","title":"Forbidden"}}"#,
            FailureClass::PermissionDenied,
        ),
        (&keystone, 404, "", FailureClass::InvalidAnswer),
        (&keystone, 201, r#"{"token":{}}"#, FailureClass::InvalidAnswer),
        (&keystone, 302, "", FailureClass::InvalidAnswer),
        (&keystone, 503, "<html>", FailureClass::UpstreamUnavailable),
        (&keystone, 429, "", FailureClass::RateLimited),
        (&cloud_ru, 401, r#"{"error":{"code":16,"message":"bad key"}}"#, FailureClass::AuthenticationFailed),
        (&cloud_ru, 404, r#"{"code":5,"message":"key not found"}"#, FailureClass::AuthenticationFailed),
        (
            &cloud_ru,
            400,
            r#"{"error":"invalid_client","error_description":"client not found"}"#,
            FailureClass::AuthenticationFailed,
        ),
        (
            &oauth2,
            400,
            r#"{"error":"invalid_client","error_description":"client not found"}"#,
            FailureClass::AuthenticationFailed,
        ),
        (&oauth2, 401, r#"{"error":"invalid_client"}"#, FailureClass::AuthenticationFailed),
        (&oauth2, 400, r#"{"error":"invalid_client"}"#, FailureClass::AuthenticationFailed),
        (
            &oauth2,
            400,
            r#"{"error":"invalid_scope","error_description":"no such scope"}"#,
            FailureClass::InvalidRequest,
        ),
        (
            &keystone,
            401,
            r#"{"receipt":{"methods":["password"]},"required_auth_methods":[["password","totp"]]}"#,
            FailureClass::AuthenticationFailed,
        ),
        (&keystone, 429, r#"{"error_msg":"too many","error_code":"APIGW.0308"}"#, FailureClass::RateLimited),
        (
            &oauth2,
            403,
            r#"{"error":"interaction_required","error_description":"Multi-factor authentication is required."}"#,
            FailureClass::PermissionDenied,
        ),
        (
            &oauth2,
            400,
            r#"{"error":"invalid_request","error_description":["grant_type is missing","scope is unknown"]}"#,
            FailureClass::InvalidRequest,
        ),
        (
            &oauth2,
            400,
            r#"{"errors":["the client is disabled",{"code":"E17","message":"ask the owner"}]}"#,
            FailureClass::InvalidAnswer,
        ),
        (&oauth2, 403, r#"{"error":"access_denied","error_description":"not you"}"#, FailureClass::PermissionDenied),
        (&oauth2, 200, "<html>", FailureClass::InvalidAnswer),
        (&oauth2, 200, r#"{"access_token":""}"#, FailureClass::InvalidAnswer),
    ] {
        let failure = credential.decode_token(&answer(status, body), now()).unwrap_err();
        assert_eq!(failure.class, class, "{status} {body}");
        let _ = writeln!(messages, "{failure} {}", failure.advice());
    }
    insta::assert_snapshot!(messages);
}

fn authorized(credential: &Credential, token: Option<&str>) -> Result<HeaderMap, crate::domain::failure::Failure> {
    let mut headers = HeaderMap::new();
    let token = token.map(|token| Token { value: SecretString::from(token), expires: None });
    let url = url("https://evs.example:8443/v1/p/jobs/j");
    credential.authorize(token.as_ref(), &Method::GET, &url, &mut headers, b"", Some("p"), now())?;
    Ok(headers)
}

#[test]
fn authorization() {
    let fixed = |value: &str, style| Credential::Token { value: SecretString::from(value), style };
    for (credential, token, header, expected) in [
        (fixed("abc\n", TokenStyle::Bearer), None, "authorization", "Bearer abc"),
        (fixed("Bearer abc\n", TokenStyle::Bearer), None, "authorization", "Bearer abc"),
        (fixed("abc\r\n", TokenStyle::XAuthToken), None, "x-auth-token", "abc"),
        (keystone("https://iam", Project::Id("p".to_owned())), Some("MII"), "x-auth-token", "MII"),
        (cloud_ru("https://iam"), Some("abc"), "authorization", "Bearer abc"),
        (oauth2(), Some("abc"), "authorization", "Bearer abc"),
    ] {
        let headers = authorized(&credential, token).unwrap();
        assert_eq!(headers[header], expected);
        assert!(headers[header].is_sensitive());
        assert_eq!(headers.len(), 1);
    }
    for bad in ["a\nb", "", " \n", "ж", "a\0b"] {
        for style in [TokenStyle::Bearer, TokenStyle::XAuthToken] {
            let failure = authorized(&fixed(bad, style), None).unwrap_err();
            assert_eq!(failure.class, FailureClass::AuthenticationFailed, "{bad:?}");
            assert!(failure.message.contains("Secret"), "{failure}");
        }
    }
    assert!(authorized(&oauth2(), None).is_err());
}

#[test]
fn access_keys() {
    let key = |access: &str, secret: &str| Credential::AccessKey {
        access: access.to_owned(),
        secret: SecretString::from(secret),
        security_token: Some(SecretString::from("temporary\n")),
    };
    let headers = authorized(&key("AK\n", "SK\n"), None).unwrap();
    let authorization = headers["authorization"].to_str().unwrap();
    assert!(
        authorization.starts_with("SDK-HMAC-SHA256 Access=AK, SignedHeaders=host;x-sdk-date, Signature="),
        "{authorization}"
    );
    assert_eq!(
        (&headers["x-project-id"], &headers["x-security-token"]),
        (&"p".parse().unwrap(), &"temporary".parse().unwrap())
    );
    assert!(key("AK", "SK").token_request().is_none());
    for (access, secret) in [("", "SK"), ("AK", "\n"), ("A\nK", "SK")] {
        assert_eq!(authorized(&key(access, secret), None).unwrap_err().class, FailureClass::AuthenticationFailed);
    }
}
