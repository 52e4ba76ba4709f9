//! Who may read what: credentials of the scopes, tokens that were issued and expire, access keys that get locked.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::seconds_to_ms;
use crate::http::{AuthOutcome, Request};
use crate::scenario::{Credential, Provider};
use crate::signing::{Authorization, Refusal, Signed};
use crate::world::{World, lock};

/// Failures in a row after which an access key is locked, and for how long (upstreams.md §0.4).
const LOCK_AFTER: u32 = 5;
const LOCK_MS: i64 = 5 * 60 * 1000;

/// A token that was given out.
#[derive(Debug, Clone)]
pub(crate) struct Issued {
    pub(crate) provider: Provider,
    /// The credential it was given for. When that changes, the token is worth nothing (§2.3).
    pub(crate) identity: String,
    /// A project-scoped token opens only that project (§2.3).
    pub(crate) project: Option<String>,
    pub(crate) expires_ms: i64,
    /// The 24 h or 1 h that the answer spoke of.
    pub(crate) said_ms: i64,
}

#[derive(Debug, Default)]
pub(crate) struct KeyState {
    failures: u32,
    locked_until: i64,
}

#[derive(Debug, Default)]
pub(crate) struct Tokens {
    issued: HashMap<String, Issued>,
    serial: AtomicU64,
}

impl Tokens {
    /// Gives out a token. It looks random and follows from the seed and the number of tokens before it.
    pub(crate) fn issue(&mut self, seed: u64, issued: Issued, now: i64) -> String {
        // Whoever re-authenticates for a week does not fill the memory.
        if self.issued.len() > 100_000 {
            self.issued.retain(|_, t| t.expires_ms > now);
        }
        let n = self.serial.fetch_add(1, Ordering::Relaxed);
        let mut rng = crate::rng::Rng::new(seed ^ n.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let token = format!("sim.{n}.{:016x}{:016x}{:016x}", rng.next(), rng.next(), rng.next());
        self.issued.insert(token.clone(), issued);
        token
    }

    /// Ends tokens now; how many there were.
    pub(crate) fn expire(&mut self, now: i64, matches: impl Fn(&Issued) -> bool) -> usize {
        let live = self.issued.values_mut().filter(|t| t.expires_ms > now && matches(t));
        live.map(|t| t.expires_ms = now).count()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Issued> {
        self.issued.values()
    }
}

impl Credential {
    /// What tells this credential, with this secret, from any other.
    pub(crate) fn identity(&self) -> String {
        match self {
            Self::Token { token, .. } => format!("token\n{token}"),
            Self::Password { user, password, domain, .. } => format!("password\n{domain}\n{user}\n{password}"),
            Self::AccessKey { access_key, secret_key } => format!("ak\n{access_key}\n{secret_key}"),
            Self::Key { key_id, secret, .. } => format!("key\n{key_id}\n{secret}"),
            Self::Oauth2 { client_id, client_secret, .. } => format!("oauth2\n{client_id}\n{client_secret}"),
            Self::Keystone { url } => format!("keystone\n{url}"),
        }
    }

    /// For how long a token is said to live and does live, in ms.
    pub(crate) fn lifetime_ms(&self) -> (i64, i64) {
        match self {
            Self::Password { token_seconds, actual_token_seconds, .. }
            | Self::Key { token_seconds, actual_token_seconds, .. }
            | Self::Oauth2 { token_seconds, actual_token_seconds, .. } => {
                (seconds_to_ms(*token_seconds), seconds_to_ms(actual_token_seconds.unwrap_or(*token_seconds)))
            }
            Self::Token { .. } | Self::AccessKey { .. } | Self::Keystone { .. } => (0, 0),
        }
    }
}

/// The answer to "may this request read that scope".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) outcome: AuthOutcome,
    /// With `Denied`: the number of the problem.
    pub(crate) denied: u32,
}

impl From<AuthOutcome> for Verdict {
    fn from(outcome: AuthOutcome) -> Self {
        Self { outcome, denied: 0 }
    }
}

impl World {
    /// Judges a token, static or issued.
    pub(crate) fn judge_token(&self, provider: Provider, scope: &str, token: &str) -> Verdict {
        let target = self.scope(provider, scope);
        let own = target.as_ref().and_then(|s| s.static_token(token));
        if let Some(denied) = own {
            return match denied {
                0 => AuthOutcome::Ok.into(),
                denied => Verdict { outcome: AuthOutcome::Denied, denied },
            };
        }
        let issued = lock(&self.tokens).issued.get(token).cloned().filter(|t| t.provider == provider);
        if let Some(issued) = issued {
            let holds = |s: &crate::world::Scope| s.spec().credentials.iter().any(|c| c.identity() == issued.identity);
            let opens = issued.project.as_deref().is_none_or(|p| p == scope) && target.as_deref().is_some_and(holds);
            // Looked for elsewhere only when it does not open this one.
            let alive = opens || self.scopes_of(provider).iter().any(|s| holds(s));
            return if !alive || issued.expires_ms <= self.clock.now_ms() {
                AuthOutcome::Expired.into()
            } else if opens {
                AuthOutcome::Ok.into()
            } else {
                AuthOutcome::OtherScope.into()
            };
        }
        if self.scopes_of(provider).iter().any(|s| s.static_token(token).is_some()) {
            return AuthOutcome::OtherScope.into();
        }
        AuthOutcome::Invalid.into()
    }

    /// Judges an AK/SK signature. The word is the reason, for the answer's text.
    pub(crate) fn judge_signature(&self, scope: &str, header: &str, request: &Request) -> (AuthOutcome, &'static str) {
        let authorization = match Authorization::parse(header) {
            Ok(a) => a,
            Err(Refusal::Malformed(why)) => return (AuthOutcome::Invalid, why),
            Err(_) => return (AuthOutcome::Invalid, "authorization"),
        };
        let access = authorization.access;
        let secret_in = |s: &crate::world::Scope| {
            s.spec().credentials.iter().find_map(|c| match c {
                Credential::AccessKey { access_key, secret_key } if access_key == access => Some(secret_key.clone()),
                _ => None,
            })
        };
        let target = self.scope(Provider::HuaweiCloud, scope);
        let own = target.as_deref().and_then(secret_in);
        let opens = own.is_some();
        let Some(secret) = own.or_else(|| self.scopes_of(Provider::HuaweiCloud).iter().find_map(|s| secret_in(s)))
        else {
            return (AuthOutcome::Invalid, "unknown access key");
        };
        let now = self.clock.now_ms();
        let no_lock = target.is_some_and(|t| t.spec().options.no_lock);
        let mut keys = lock(&self.keys);
        let state = keys.entry(access.to_owned()).or_default();
        if !no_lock && state.locked_until > now {
            return (AuthOutcome::Locked, "the access key is locked");
        }
        let signed = Signed {
            method: request.method.as_str(),
            path: &request.path,
            query: &request.query,
            headers: &request.headers,
            authority: request.authority.as_deref(),
            body: &request.body,
        };
        let why = match authorization.verify(&secret, &signed, now) {
            Ok(()) => {
                *state = KeyState::default();
                let outcome = if opens { AuthOutcome::Ok } else { AuthOutcome::OtherScope };
                return (outcome, "");
            }
            Err(Refusal::Malformed(why)) => why,
            Err(Refusal::Expired) => "signature expired",
            Err(Refusal::Wrong) => "verify aksk signature fail",
        };
        state.failures += 1;
        if state.failures >= LOCK_AFTER {
            *state = KeyState { failures: 0, locked_until: now + LOCK_MS };
        }
        (AuthOutcome::Invalid, why)
    }
}
