//! The `filter` of Astra's lists: `field op 'value'`, ops eq lt gt lte gte in, dotted fields and `[*]`, several joined by `,`
//! (upstreams.md §3.3; seed 002).

use std::cmp::Ordering;

use serde_json::Value;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Eq,
    Lt,
    Gt,
    Lte,
    Gte,
    In,
}

/// One comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Clause {
    pub(crate) field: String,
    pub(crate) op: Op,
    pub(crate) values: Vec<String>,
}

/// Reads a filter; the error is the reason for `invalidParams`.
pub(crate) fn parse(text: &str) -> Result<Vec<Clause>, String> {
    let mut clauses = Vec::new();
    let mut rest = text.trim_start();
    loop {
        let (clause, after) = clause(rest)?;
        clauses.push(clause);
        match after.strip_prefix(',') {
            Some(next) => rest = next.trim_start(),
            None if after.is_empty() => return Ok(clauses),
            None => return Err(format!("',' expected at '{after}'")),
        }
    }
}

fn clause(text: &str) -> Result<(Clause, &str), String> {
    let (field, rest) = text.split_once(' ').ok_or("an operator is missing")?;
    let known = |b: u8| b.is_ascii_alphanumeric() || b"._-[]*".contains(&b);
    if field.is_empty() || !field.bytes().all(known) {
        return Err(format!("'{field}' is not a field"));
    }
    let (op, rest) = rest.trim_start().split_once(' ').ok_or("a value is missing")?;
    let op = match op {
        "eq" => Op::Eq,
        "lt" => Op::Lt,
        "gt" => Op::Gt,
        "lte" => Op::Lte,
        "gte" => Op::Gte,
        "in" => Op::In,
        other => return Err(format!("'{other}' is not an operator")),
    };
    let mut values = Vec::new();
    let mut rest = rest.trim_start();
    loop {
        let inner = rest.strip_prefix('\'').ok_or("a value stands in single quotes")?;
        let (value, after) = inner.split_once('\'').ok_or("a quote is not closed")?;
        values.push(value.to_owned());
        rest = after.trim_start();
        // `in` takes several values; a comma that is not followed by a quote begins the next comparison.
        match rest.strip_prefix(',').map(str::trim_start) {
            Some(next) if op == Op::In && next.starts_with('\'') => rest = next,
            _ => break,
        }
    }
    Ok((Clause { field: field.to_owned(), op, values }, rest))
}

impl Clause {
    /// Whether a field of this value passes.
    pub(crate) fn passes_text(&self, actual: &str) -> bool {
        self.values.iter().any(|wanted| {
            let order = compare(actual, wanted);
            match self.op {
                Op::Eq | Op::In => order == Ordering::Equal,
                Op::Lt => order == Ordering::Less,
                Op::Gt => order == Ordering::Greater,
                Op::Lte => order != Ordering::Greater,
                Op::Gte => order != Ordering::Less,
            }
        })
    }

    /// Whether a resource passes; a field that is not there does not.
    pub(crate) fn passes(&self, resource: &Value) -> bool {
        let parts: Vec<&str> = self.field.split('.').collect();
        self.walk(resource, &parts)
    }

    fn walk(&self, value: &Value, parts: &[&str]) -> bool {
        let Some((part, rest)) = parts.split_first() else {
            return match value {
                Value::String(s) => self.passes_text(s),
                Value::Null => false,
                other => self.passes_text(&other.to_string()),
            };
        };
        if let Some(name) = part.strip_suffix("[*]") {
            let list = if name.is_empty() { Some(value) } else { value.get(name) };
            return list.and_then(Value::as_array).is_some_and(|l| l.iter().any(|v| self.walk(v, rest)));
        }
        value.get(part).is_some_and(|v| self.walk(v, rest))
    }
}

/// Numbers as numbers, times as times, the rest by their bytes.
fn compare(a: &str, b: &str) -> Ordering {
    if let (Ok(a), Ok(b)) = (a.parse::<f64>(), b.parse::<f64>()) {
        return a.total_cmp(&b);
    }
    if let (Ok(a), Ok(b)) = (a.parse::<jiff::Timestamp>(), b.parse::<jiff::Timestamp>()) {
        return a.cmp(&b);
    }
    a.cmp(b)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn passes(filter: &str) -> bool {
        let task = json!({"id": "a", "state": "running", "percentDone": 20.25, "resourceCollectionURI": ["/x", "/y"],
            "metadata": {"modificationTimestamp": "2020-08-06T12:24:52.256624Z", "labels": [{"name": "n", "value": "v"}]}});
        parse(filter).unwrap().iter().all(|c| c.passes(&task))
    }

    #[test]
    fn grammar() {
        for (filter, expected) in [
            ("id eq 'a'", true),
            ("id eq 'b'", false),
            ("id eq 'a',state eq 'running'", true),
            ("id eq 'a', state eq 'paused'", false),
            ("state in 'paused','running'", true),
            ("state in 'paused','failed',id eq 'a'", false),
            ("percentDone gt '9'", true),
            ("percentDone lte '20.25'", true),
            ("percentDone lt '20.25'", false),
            ("metadata.modificationTimestamp gt '2020-08-06T12:24:52Z'", true),
            ("metadata.modificationTimestamp gte '2020-08-06T12:24:53Z'", false),
            ("metadata.labels[*].name eq 'n'", true),
            ("resourceCollectionURI[*] eq '/y'", true),
            ("parentTaskID eq ''", false),
            ("name lt 'x'", false),
        ] {
            assert_eq!(passes(filter), expected, "{filter}");
        }
    }

    #[test]
    fn refused() {
        for bad in [
            "",
            "id",
            "id eq",
            "id eq a",
            "id eq 'a",
            "id ne 'a'",
            "id eq 'a' state eq 'b'",
            "id eq 'a',",
            "i(d eq 'a'",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
