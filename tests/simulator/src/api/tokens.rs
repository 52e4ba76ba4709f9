//! The endpoints that give out tokens: IAM v3 of Huawei Cloud (upstreams.md §2.3), the two key exchanges of Cloud.ru (§1.5), and
//! OAuth2 client credentials (RFC 6749 §4.4, §5).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::auth::Issued;
use crate::clock::micros_z;
use crate::http::{AuthOutcome, Reply, Request};
use crate::scenario::{Credential, Provider};
use crate::world::{World, lock};

/// Answers every token endpoint.
pub(crate) fn answer(world: &World, request: &Request) -> Reply {
    if request.method != "POST" {
        return Reply::new(405, "text/plain; charset=utf-8", "method not allowed\n").with_header("Allow", "POST");
    }
    match request.path.as_str() {
        "/v3/auth/tokens" => iam(world, request),
        "/api/v1/auth/token" => key_exchange(world, request),
        "/auth/system/openid/token" => openid(world, request),
        _ => oauth2(world, request),
    }
}

/// A token that was made, and how long it is said to live.
struct Given {
    token: String,
    said_ms: i64,
    now: i64,
}

fn give(world: &World, provider: Provider, credential: &Credential, project: Option<String>) -> Given {
    let now = world.clock.now_ms();
    let (said, actual) = credential.lifetime_ms();
    let issued =
        Issued { provider, identity: credential.identity(), project, expires_ms: now + actual, said_ms: now + said };
    let token = lock(&world.tokens).issue(world.seed, issued, now);
    Given { token, said_ms: said, now }
}

/// The first credential of a provider's scopes that `matches`.
fn find(world: &World, provider: Provider, matches: impl Fn(&Credential) -> bool) -> Option<Credential> {
    world.scopes_of(provider).iter().find_map(|s| s.spec().credentials.iter().find(|c| matches(c)).cloned())
}

/// An error of IAM; its code is an integer (§2.3).
pub(crate) fn iam_error(status: u16, message: &str) -> Reply {
    let title = match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        429 => "Too Many Requests",
        503 => "Service Unavailable",
        _ => "Error",
    };
    Reply::json(status, &json!({"error": {"code": status, "message": message, "title": title}}))
}

fn iam(world: &World, request: &Request) -> Reply {
    let Ok(body) = serde_json::from_slice::<Value>(&request.body) else {
        return iam_error(400, "The request body is invalid.");
    };
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str);
    let password_method = body.pointer("/auth/identity/methods").and_then(Value::as_array);
    let user = "/auth/identity/password/user";
    let (Some(name), Some(pass), Some(domain), true) = (
        text(&format!("{user}/name")),
        text(&format!("{user}/password")),
        text(&format!("{user}/domain/name")),
        password_method.is_some_and(|m| m.iter().any(|v| v == "password")),
    ) else {
        return iam_error(400, "Expecting to find methods, user name, password and domain in the request body.");
    };
    let matches = |c: &Credential| matches!(c, Credential::Password { user, password, domain: d, .. } if user == name && password == pass && d == domain);
    let refused = || iam_error(401, "The username or password is wrong.").with_auth(AuthOutcome::Invalid);
    let Some(credential) = find(world, Provider::HuaweiCloud, matches) else { return refused() };
    let (by_id, by_name) = (text("/auth/scope/project/id"), text("/auth/scope/project/name"));
    let project = if by_id.is_some() || by_name.is_some() {
        let scopes = world.scopes_of(Provider::HuaweiCloud);
        let wanted = scopes.iter().map(|s| s.spec()).find(|s| {
            s.credentials.iter().any(matches)
                && by_id.is_none_or(|id| id == s.id)
                && by_name.is_none_or(|name| s.name.as_deref() == Some(name))
        });
        match wanted {
            Some(spec) => spec,
            None => return refused(),
        }
    } else {
        // Scoped to the domain: it opens no project (§2.3).
        let given = give(world, Provider::HuaweiCloud, &credential, Some(String::new()));
        let token = json!({"token": {"methods": ["password"], "expires_at": micros_z(given.now + given.said_ms),
            "issued_at": micros_z(given.now), "domain": {"name": domain}, "user": {"name": name}}});
        return Reply::json(201, &token).with_header("X-Subject-Token", given.token).with_auth(AuthOutcome::Ok);
    };
    let given = give(world, Provider::HuaweiCloud, &credential, Some(project.id.clone()));
    let domain = json!({"id": "d78cbac186b744899480f25bd022f468", "name": domain});
    let mut token = json!({
        "expires_at": micros_z(given.now + given.said_ms), "issued_at": micros_z(given.now), "methods": ["password"],
        "project": {"id": project.id, "name": project.name, "domain": domain},
        "user": {"id": "7116d09f88fa41908676fdd4b039e95b", "name": name, "domain": domain, "password_expires_at": ""},
        "roles": [{"id": "0", "name": "te_admin"}],
    });
    // §2.3: clients ask with nocatalog=true.
    if !request.pairs().iter().any(|(k, v)| k == "nocatalog" && v == "true") {
        token["catalog"] = json!([]);
    }
    Reply::json(201, &json!({"token": token})).with_header("X-Subject-Token", given.token).with_auth(AuthOutcome::Ok)
}

fn key_exchange(world: &World, request: &Request) -> Reply {
    let Ok(body) = serde_json::from_slice::<Value>(&request.body) else {
        return Reply::json(400, &json!({"code": 3, "message": "invalid body", "details": []}));
    };
    let (key, pass) = (body["keyId"].as_str(), body["secret"].as_str());
    let matches = |c: &Credential| matches!(c, Credential::Key { key_id, secret, .. } if Some(key_id.as_str()) == key && Some(secret.as_str()) == pass);
    let Some(credential) = find(world, Provider::CloudRu, matches) else {
        return Reply::json(401, &json!({"code": 16, "message": "invalid access key", "details": []}))
            .with_auth(AuthOutcome::Invalid);
    };
    let given = give(world, Provider::CloudRu, &credential, None);
    // Zero values are sent (§1.1).
    Reply::json(
        200,
        &json!({"access_token": given.token, "id_token": given.token, "refresh_token": "", "expires_in": given.said_ms / 1000,
            "refresh_expires_in": 0, "scopes": ["openid"], "token_type": "Bearer", "not_before": 0}),
    )
    .with_auth(AuthOutcome::Ok)
}

fn value<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
}

fn openid(world: &World, request: &Request) -> Reply {
    let form = request.form();
    if value(&form, "grant_type") != Some("access_key") {
        return Reply::json(
            400,
            &json!({"error": "unsupported_grant_type", "error_description": "access_key is expected"}),
        );
    }
    let (key, pass) = (value(&form, "client_id"), value(&form, "client_secret"));
    let matches = |c: &Credential| matches!(c, Credential::Key { key_id, secret, .. } if Some(key_id.as_str()) == key && Some(secret.as_str()) == pass);
    let Some(credential) = find(world, Provider::CloudRu, matches) else {
        return Reply::json(401, &json!({"error": "invalid_client", "error_description": "client not found"}))
            .with_auth(AuthOutcome::Invalid);
    };
    let given = give(world, Provider::CloudRu, &credential, None);
    Reply::json(
        200,
        &json!({"access_token": given.token, "id_token": given.token, "expires_in": given.said_ms / 1000,
            "not-before-policy": 0, "scope": "openid", "token_type": "Bearer"}),
    )
    .with_auth(AuthOutcome::Ok)
}

fn oauth2(world: &World, request: &Request) -> Reply {
    let form = request.form();
    let no_store = |r: Reply| r.with_header("Cache-Control", "no-store");
    if value(&form, "grant_type") != Some("client_credentials") {
        return no_store(Reply::json(400, &json!({"error": "unsupported_grant_type"})));
    }
    let basic = request.header("authorization").and_then(|h| h.strip_prefix("Basic ")).and_then(|b| {
        let text = String::from_utf8(BASE64.decode(b.trim()).ok()?).ok()?;
        let (id, secret) = text.split_once(':')?;
        // RFC 6749 §2.3.1: both are form-encoded first.
        Some((crate::http::decode(&id.replace('+', " ")), crate::http::decode(&secret.replace('+', " "))))
    });
    let posted = || Some((value(&form, "client_id")?.to_owned(), value(&form, "client_secret")?.to_owned()));
    let given = basic.or_else(posted);
    let matches = |c: &Credential| match (c, &given) {
        (Credential::Oauth2 { client_id, client_secret, .. }, Some((id, secret))) => {
            client_id == id && client_secret == secret
        }
        _ => false,
    };
    let providers = [Provider::AstraControl, Provider::CloudRu, Provider::HuaweiCloud];
    let Some((provider, credential)) = providers.into_iter().find_map(|p| Some((p, find(world, p, matches)?))) else {
        return no_store(Reply::json(401, &json!({"error": "invalid_client"})))
            .with_header("WWW-Authenticate", "Basic")
            .with_auth(AuthOutcome::Invalid);
    };
    if let (Credential::Oauth2 { scopes, .. }, Some(asked)) = (&credential, value(&form, "scope"))
        && !scopes.is_empty()
        && asked.split(' ').any(|s| !scopes.iter().any(|k| k == s))
    {
        return no_store(Reply::json(400, &json!({"error": "invalid_scope"})));
    }
    let given = give(world, provider, &credential, None);
    let body = json!({"access_token": given.token, "token_type": "Bearer", "expires_in": given.said_ms / 1000});
    no_store(Reply::json(200, &body)).with_auth(AuthOutcome::Ok)
}
