//! From an answer that is no task to a [`Failure`]: its class by the dialect's table, and words for people.

use http::{StatusCode, header::LOCATION};

use super::{
    clock,
    envelope::{self, Envelope},
    node::Node,
    retry,
    rules::{Own, Rule},
};
use crate::{
    domain::{
        failure::{Failure, FailureClass},
        text::{MESSAGE, WORD, clean, clean_option},
    },
    providers::Answer,
};

/// How one upstream says that something is wrong. A provider that is compiled in lends tables that last for ever; one that is described by
/// data can lend its own.
#[derive(Debug)]
pub struct Dialect<'d> {
    /// Its name, for people.
    pub system: &'d str,
    /// Its word for a task.
    pub task: &'d str,
    /// Its word for the scope.
    pub scope: &'d str,
    /// The field of a connection that names the scope.
    pub scope_field: &'d str,
    /// A prefix of codes that stands for another: `("APIGW.", "APIG.")`.
    pub same_prefix: Option<(&'d str, &'d str)>,
    /// The envelopes and codes by which its own words are known.
    pub own: &'d [Own],
    /// What its codes mean.
    pub rules: &'d [Rule<'d>],
}

/// What was asked for; empty texts where that is not known (`taskwatch decode`).
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The scope's identifier.
    pub scope: &'a str,
    /// The task's identifier; none for a list.
    pub task: Option<&'a str>,
}

impl<'d> Dialect<'d> {
    /// Reads the body of an answer that should hold what was asked for.
    ///
    /// # Errors
    /// Where the status is not a success or the body is not JSON.
    pub fn parse<'t>(&self, asked: Asked<'_>, answer: &Answer, text: &'t str) -> Result<Node<'t>, Failure> {
        match self.refused(asked, answer, text) {
            Some(failure) => Err(failure),
            None => Node::parse(text).map_err(|error| self.unreadable(asked, answer, text, &error)),
        }
    }

    /// The failure that an answer stands for whose status is not a success, or whose body is not whole.
    pub fn refused(&self, asked: Asked<'_>, answer: &Answer, text: &str) -> Option<Failure> {
        if answer.fault.is_some() {
            return Some(fault(answer).unwrap_or_else(|| self.failure(asked, answer, None)));
        }
        let read = || match Node::parse(text) {
            Ok(body) => self.failure(asked, answer, envelope::read(&body)),
            Err(_) => self.without_json(asked, answer, text),
        };
        (!answer.status.is_success()).then(read)
    }

    /// The failure for a body that is not JSON, under a status of success.
    pub fn unreadable(&self, asked: Asked<'_>, answer: &Answer, text: &str, error: &serde_json::Error) -> Failure {
        let what = match text.trim_start().as_bytes().first() {
            None => "an empty body".to_owned(),
            Some(b'<') => "an HTML or XML page, which a login page or a proxy sends".to_owned(),
            Some(b'{' | b'[') => format!("broken JSON ({error})"),
            Some(_) => "something that is not JSON".to_owned(),
        };
        self.invalid(asked, answer, &format!("answered with {what}"))
    }

    /// The failure for an answer that is not what was asked for; `what` begins with a verb of which the system is the subject.
    pub fn invalid(&self, asked: Asked<'_>, answer: &Answer, what: &str) -> Failure {
        let message = format!("Asked for {}, {} {what}", self.task_words(asked), self.system);
        with_answer(Failure::new(FailureClass::InvalidAnswer, clean(&message, MESSAGE)), answer, None)
    }

    /// The failure that the error in a body, or the status alone, stands for.
    pub fn failure(&self, asked: Asked<'_>, answer: &Answer, error: Option<Envelope>) -> Failure {
        if answer.status.is_redirection() || answer.status.is_informational() {
            let to = answer.headers.get(LOCATION).and_then(|to| to.to_str().ok());
            let to =
                to.map(|to| format!(" (to {})", to.split(['?', '#']).next().unwrap_or_default())).unwrap_or_default();
            let what = format!("answered {}{to}. Redirects are not followed", answer.status.as_u16());
            return self.invalid(asked, answer, &what);
        }
        let own = Own::of(self.own, error.as_ref());
        let rule = own.and_then(|_| self.rule(error.as_ref()?));
        // A gateway that speaks in the envelope of its API does not speak for it.
        let own = own.filter(|_| rule.is_none_or(|rule| rule.class != FailureClass::InvalidAnswer));
        let class = match rule {
            Some(rule) if own.is_some() => rule.class,
            _ => by_words(answer.status, error.as_ref(), own),
        };
        let advised = rule.filter(|rule| rule.class == class && !rule.advice.is_empty()).map(|rule| rule.advice);
        // A list has no task that could be missing.
        let class =
            if class == FailureClass::NotFound && asked.task.is_none() { FailureClass::ScopeNotFound } else { class };
        let text = match advised {
            Some(text) => text,
            None if own.is_none() => foreign(class),
            None => own_words(class),
        };
        let fill = |text: &str| {
            text.replace("{system}", self.system)
                .replace("{field}", self.scope_field)
                .replace("{task}", &self.task_words(asked))
                .replace("{scope}", &self.scope_words(asked))
                .replace("{clock}", &clock::difference(error.as_ref().map_or("", |error| &error.message)))
        };
        let (what, advice) = what_and_advice(text);
        let said = said(answer, error.as_ref());
        let failure =
            Failure::new(class, clean(&format!("{}. It answered {said}", fill(what)), MESSAGE)).advising(&fill(advice));
        // Codes that are not the API's mean nothing to anybody who compares them.
        with_answer(failure, answer, error.filter(|_| own.is_some()))
    }

    /// The failure for an error status whose body is not JSON.
    fn without_json(&self, asked: Asked<'_>, answer: &Answer, text: &str) -> Failure {
        let page = text.trim_start().starts_with('<');
        let error = (!page).then(|| Envelope { message: clean(text, WORD), ..Envelope::default() });
        self.failure(asked, answer, error.filter(|error| !error.message.is_empty()))
    }

    /// The first line of the table that holds for `error`.
    fn rule(&self, error: &Envelope) -> Option<&'d Rule<'d>> {
        let code = match self.same_prefix.and_then(|(from, to)| Some((error.code.strip_prefix(from)?, to))) {
            Some((rest, to)) => format!("{to}{rest}"),
            None => error.code.clone(),
        };
        Rule::find(self.rules, &code, error)
    }

    fn task_words(&self, asked: Asked<'_>) -> String {
        match asked.task {
            Some("") => format!("the {}", self.task),
            Some(id) => format!("{} {id}", self.task),
            None => format!("the {}s", self.task),
        }
    }

    fn scope_words(&self, asked: Asked<'_>) -> String {
        if asked.scope.is_empty() {
            format!("the {} asked for", self.scope)
        } else {
            format!("{} {}", self.scope, asked.scope)
        }
    }
}

/// What an error means for which no table has a line. Words that are not the API's own (`own` is none) are no word on a task, a scope,
/// a request or a right: to take a gateway's 404 for "the task is gone" would end a watch for good.
fn by_words(status: StatusCode, error: Option<&Envelope>, own: Option<&Own>) -> FailureClass {
    let class = by_status(effective_status(status, error.filter(|_| own.is_some())));
    match class {
        FailureClass::NotFound if !own.is_some_and(|own| own.names_tasks) => FailureClass::InvalidAnswer,
        FailureClass::PermissionDenied | FailureClass::InvalidRequest if own.is_none() => FailureClass::InvalidAnswer,
        class => class,
    }
}

/// The status that counts: that of HTTP, or, where this claims success, the one that the error gives as its code.
fn effective_status(status: StatusCode, error: Option<&Envelope>) -> u16 {
    let claimed = || error?.code.parse().ok().filter(|code| (400..600).contains(code));
    if status.is_success() { claimed().unwrap_or(400) } else { status.as_u16() }
}

/// What an HTTP status means where no table says better (RFC 9110 §15).
#[must_use]
pub fn by_status(status: u16) -> FailureClass {
    match status {
        401 | 407 => FailureClass::AuthenticationFailed,
        403 => FailureClass::PermissionDenied,
        404 | 410 => FailureClass::NotFound,
        408 | 409 | 423 | 425 | 500.. => FailureClass::UpstreamUnavailable,
        429 => FailureClass::RateLimited,
        400..500 => FailureClass::InvalidRequest,
        _ => FailureClass::InvalidAnswer,
    }
}

/// The two parts of a text: what happened, and after a colon what to do, where that is more than its class advises.
#[must_use]
pub fn what_and_advice(text: &str) -> (&str, &str) {
    text.split_once(": ").unwrap_or((text, ""))
}

/// What happened and what to do, where no rule has words of its own.
fn own_words(class: FailureClass) -> &'static str {
    match class {
        FailureClass::NotFound => {
            "{system} does not know {task} in {scope}: check spec.task.id; it may also be too new to be seen, or so old that it was dropped"
        }
        FailureClass::ScopeNotFound => {
            "{system} does not know {scope}, or the credential belongs to another: check {field}, spec.task.scope and the endpoint"
        }
        FailureClass::AuthenticationFailed => {
            "{system} refused the credential: check the Secret that spec.auth of the connection names"
        }
        FailureClass::PermissionDenied => {
            "The credential is valid, but may not read {task} in {scope}: grant it the right to read, or check {field}"
        }
        FailureClass::RateLimited => "{system} limits the rate of requests",
        FailureClass::UpstreamUnavailable => "{system} cannot answer for {task} at the moment",
        FailureClass::InvalidRequest => {
            "{system} refuses the request for {task} in {scope}: check spec.task.id, {field} and the endpoint"
        }
        FailureClass::InvalidAnswer => "{system} did not answer with what was asked for, {task}",
    }
}

/// What happened and what to do, where an answer is not in the words of the API.
fn foreign(class: FailureClass) -> &'static str {
    match class {
        FailureClass::AuthenticationFailed => {
            "The credential was refused, though not in the words of the API of {system}; a gateway or proxy in front of it may have done so: \
             check the Secret that spec.auth of the connection names, and the endpoint"
        }
        FailureClass::InvalidAnswer => {
            "The answer to the request for {task} is not in the words of the API of {system}, so nothing is concluded from it; a gateway, \
             a proxy or another server may have given it"
        }
        class => own_words(class),
    }
}

/// The failure for an answer that claims success, and of whose body nothing can be read; none for any other.
#[must_use]
pub fn fault(answer: &Answer) -> Option<Failure> {
    let fault = answer.fault.clone().filter(|_| answer.status.is_success())?;
    Some(with_answer(fault, answer, None))
}

/// The upstream's own words, after "It answered".
#[must_use]
pub fn said(answer: &Answer, error: Option<&Envelope>) -> String {
    let status = answer.status.as_u16();
    if let Some(fault) = &answer.fault {
        return format!("{status}, but its body could not be read: {}", fault.message);
    }
    match error {
        None => status.to_string(),
        Some(error) if error.code.is_empty() => format!("{status}: {}", error.message),
        Some(error) if error.message.is_empty() => format!("{status}, code {}", error.code),
        Some(error) => format!("{status}, code {}: {}", error.code, error.message),
    }
}

/// Adds what the answer says about itself.
pub fn with_answer(failure: Failure, answer: &Answer, error: Option<Envelope>) -> Failure {
    let header = || clean_option(answer.headers.get("x-request-id")?.to_str().ok()?, WORD);
    let error = error.unwrap_or_default();
    Failure {
        code: if error.code.is_empty() { failure.code } else { error.code },
        http_status: Some(answer.status.as_u16()),
        retry_after: retry::retry_after(&answer.headers),
        correlation_id: error.correlation_id.or_else(header),
        ..failure
    }
}
