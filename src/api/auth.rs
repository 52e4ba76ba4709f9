//! How a connection proves who it is. The credential itself is always in a Secret.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{
    bounds::{KEY, OAUTH2_SCOPES, WORD},
    schema,
};

/// The credential of a connection: exactly one of the members. Secrets of a TaskConnection are in its own namespace, those of a
/// ClusterTaskConnection in the operator's (`--cluster-resource-namespace`).
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.token), has(self.keystone), has(self.accessKey), has(self.cloudRuKey), has(self.oauth2)].exists_one(given, given)").message("give exactly one credential: token, keystone, accessKey, cloudRuKey or oauth2"))]
pub struct ConnectionAuth {
    /// A token that stays the same: sent as `Authorization: Bearer …`, to Huawei Cloud as `X-Auth-Token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenAuth>,
    /// User name and password at an Identity API v3 (`OpenStack` Keystone, Huawei Cloud IAM); the token is kept until it expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keystone: Option<KeystoneAuth>,
    /// A Huawei Cloud access key, with which each request is signed (SDK-HMAC-SHA256); the vendor recommends it over tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key: Option<AccessKeyAuth>,
    /// A Cloud.ru service account's key, exchanged for a token of one hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_ru_key: Option<CloudRuKeyAuth>,
    /// `OAuth2` client credentials (RFC 6749 §4.4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth2: Option<OAuth2Auth>,
}

/// The one member of a [`ConnectionAuth`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthRef<'a> {
    /// `token`
    Token(&'a TokenAuth),
    /// `keystone`
    Keystone(&'a KeystoneAuth),
    /// `accessKey`
    AccessKey(&'a AccessKeyAuth),
    /// `cloudRuKey`
    CloudRuKey(&'a CloudRuKeyAuth),
    /// `oauth2`
    OAuth2(&'a OAuth2Auth),
}

impl ConnectionAuth {
    /// The member that is given; none unless it is exactly one, which the schema sees to.
    #[must_use]
    pub fn member(&self) -> Option<AuthRef<'_>> {
        let mut given = [
            self.token.as_ref().map(AuthRef::Token),
            self.keystone.as_ref().map(AuthRef::Keystone),
            self.access_key.as_ref().map(AuthRef::AccessKey),
            self.cloud_ru_key.as_ref().map(AuthRef::CloudRuKey),
            self.oauth2.as_ref().map(AuthRef::OAuth2),
        ]
        .into_iter()
        .flatten();
        given.next().filter(|_| given.next().is_none())
    }
}

impl<'a> AuthRef<'a> {
    /// The member's name, for messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Token(_) => "token",
            Self::Keystone(_) => "keystone",
            Self::AccessKey(_) => "accessKey",
            Self::CloudRuKey(_) => "cloudRuKey",
            Self::OAuth2(_) => "oauth2",
        }
    }

    /// The name of the Secret.
    #[must_use]
    pub fn secret(self) -> &'a str {
        match self {
            Self::Token(auth) => &auth.secret_ref.name,
            Self::Keystone(auth) => &auth.secret_ref.name,
            Self::AccessKey(auth) => &auth.secret_ref.name,
            Self::CloudRuKey(auth) => &auth.secret_ref.name,
            Self::OAuth2(auth) => &auth.secret_ref.name,
        }
    }
}

/// A Secret and one of its keys.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyReference {
    /// The name of the Secret.
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
    /// The key of the Secret that holds the token. Default: `token`.
    #[serde(default = "default_token_key")]
    #[schemars(length(min = 1, max = KEY), pattern("^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

fn default_token_key() -> String {
    "token".to_owned()
}

/// A Secret whose keys have fixed names.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SecretReference {
    /// The name of the Secret.
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
}

/// A token that stays the same.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TokenAuth {
    /// The Secret with the token, under the key `token` unless `key` says otherwise.
    pub secret_ref: SecretKeyReference,
}

/// User name and password at an Identity API v3.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct KeystoneAuth {
    /// The base URL of the Identity API, as `https://iam.eu-west-101.myhuaweicloud.eu`; `/v3/auth/tokens` is added to it.
    #[schemars(schema_with = "schema::url")]
    pub endpoint: String,
    /// The Secret with the keys `username`, `password` and `domain` (the name of the user's domain or Huawei Cloud account).
    pub secret_ref: SecretReference,
    /// The project that the token is for. Absent: that of `provider.huaweiCloud.projectID`; other providers need it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<KeystoneProject>,
}

impl KeystoneAuth {
    /// Keys of the Secret: user name, password, name of the user's domain.
    pub const KEYS: [&'static str; 3] = ["username", "password", "domain"];
}

/// The project that a token is for: by `id`, or by `name` and `domain`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.id) != has(self.name)").message("give the project either by id or by name"),
    validation = Rule::new("!has(self.domain) || has(self.name)").message("domain goes with name; a project id needs none")
)]
pub struct KeystoneProject {
    /// The identifier of the project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::identifier")]
    pub id: Option<String>,
    /// The name of the project, as `eu-west-101`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = WORD))]
    pub name: Option<String>,
    /// The name of the domain that the named project is in. Absent: the user's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = WORD))]
    pub domain: Option<String>,
}

/// A Huawei Cloud access key.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AccessKeyAuth {
    /// The Secret with the keys `accessKey` and `secretKey`, and `securityToken` for a temporary key.
    pub secret_ref: SecretReference,
}

impl AccessKeyAuth {
    /// Keys of the Secret: access key, secret key.
    pub const KEYS: [&'static str; 2] = ["accessKey", "secretKey"];
    /// Optional key of the Secret: the token that comes with a temporary access key.
    pub const SECURITY_TOKEN: &'static str = "securityToken";
}

/// A Cloud.ru service account's key.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CloudRuKeyAuth {
    /// The base URL of IAM; `/api/v1/auth/token` is added to it. Default: `https://iam.api.cloud.ru`.
    #[serde(default = "default_cloud_ru_iam")]
    #[schemars(schema_with = "schema::url")]
    pub endpoint: String,
    /// The Secret with the keys `keyID` and `secret`.
    pub secret_ref: SecretReference,
}

impl CloudRuKeyAuth {
    /// Keys of the Secret: identifier of the key, its secret.
    pub const KEYS: [&'static str; 2] = ["keyID", "secret"];
}

fn default_cloud_ru_iam() -> String {
    "https://iam.api.cloud.ru".to_owned()
}

/// `OAuth2` client credentials.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct OAuth2Auth {
    /// The URL of the token endpoint, complete with its path.
    #[serde(rename = "tokenURL")]
    #[schemars(schema_with = "schema::url")]
    pub token_url: String,
    /// The Secret with the keys `clientID` and `clientSecret`.
    pub secret_ref: SecretReference,
    /// The scopes to ask for; at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = OAUTH2_SCOPES), inner(length(min = 1, max = WORD)), extend("x-kubernetes-list-type" = "set"))]
    pub scopes: Vec<String>,
}

impl OAuth2Auth {
    /// Keys of the Secret: client identifier, client secret.
    pub const KEYS: [&'static str; 2] = ["clientID", "clientSecret"];
}
