//! The providers by name. The one of a connection is made from the API types, with its scope and vocabulary.

use super::{
    Provider,
    astra_control::AstraControl,
    cloud_ru::{CloudRu, Vocabulary},
    huawei_cloud::HuaweiCloud,
};

/// The names, as in the API's union.
pub const NAMES: &[&str] = &["huaweiCloud", "cloudRu", "astraControl"];

/// The provider of that name without a scope and with its defaults: enough to decode an answer, whoever asked for it.
#[must_use]
pub fn by_name(name: &str) -> Option<Box<dyn Provider>> {
    match name {
        "huaweiCloud" => Some(Box::new(HuaweiCloud::new(""))),
        "cloudRu" => Some(Box::new(CloudRu::new("", &Vocabulary::default()))),
        "astraControl" => Some(Box::new(AstraControl::new(""))),
        _ => None,
    }
}
