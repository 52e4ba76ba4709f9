//! What the operator tells of itself to those who look for a fault: `/debug/connections`. The question is read here; who can answer it
//! says so when it is at work.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use futures::future::BoxFuture;
use url::form_urlencoded;

/// What is asked of `/debug/connections`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// Connections of this namespace only.
    pub namespace: Option<String>,
    /// Connections of this name only.
    pub name: Option<String>,
    /// As JSON, in place of text for people.
    pub json: bool,
}

impl Question {
    /// Reads the query of a URL.
    ///
    /// # Errors
    /// What cannot be asked, and what can.
    pub fn parse(query: &str) -> Result<Self, String> {
        let mut question = Self::default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match (&*key, &*value) {
                ("namespace", value) => question.namespace = Some(value.to_owned()),
                ("name", value) => question.name = Some(value.to_owned()),
                ("format", "json") => question.json = true,
                ("format", "text") => question.json = false,
                _ => return Err("give namespace=, name=, format=text or format=json".to_owned()),
            }
        }
        Ok(question)
    }
}

type Respond = Box<dyn Fn(Question) -> BoxFuture<'static, String> + Send + Sync>;

/// Who answers; nobody until then. Clones share it.
#[derive(Clone, Default)]
pub struct Respondent(Arc<OnceLock<Respond>>);

impl Respondent {
    /// From now on questions are answered so. The first one who says so stays.
    pub fn answer_by(&self, respond: impl Fn(Question) -> BoxFuture<'static, String> + Send + Sync + 'static) {
        let _ = self.0.set(Box::new(respond));
    }

    /// The answer; none where nobody can give one yet.
    pub(crate) async fn ask(&self, question: Question) -> Option<String> {
        Some(self.0.get()?(question).await)
    }
}

impl fmt::Debug for Respondent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Respondent").field(&self.0.get().is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_read_from_a_query() {
        let of = |namespace: Option<&str>, name: Option<&str>, json| {
            Ok(Question { namespace: namespace.map(str::to_owned), name: name.map(str::to_owned), json })
        };
        assert_eq!(Question::parse(""), of(None, None, false));
        assert_eq!(Question::parse("namespace=team-a&name=evs&format=json"), of(Some("team-a"), Some("evs"), true));
        assert_eq!(Question::parse("name=a%2Db&format=text"), of(None, Some("a-b"), false));
        for wrong in ["verbose", "format=yaml", "secret=x"] {
            assert!(Question::parse(wrong).unwrap_err().contains("namespace="), "{wrong}");
        }
    }
}
