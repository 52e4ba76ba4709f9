//! Who says "not found"? Only the API in its own words; what gateways, proxies and frameworks answer ends no watch and claims no right.

use super::{answer, auth, names, now, provider};
use crate::domain::{
    failure::{Failure, FailureClass},
    task::TaskRef,
};

/// What stands between an operator and an API, and what it answers for what it does not route or does not let through.
const FOREIGN: &[(&str, &str)] = &[
    ("nothing", ""),
    ("blanks", " \r\n"),
    ("plain text", "404 page not found\n"),
    ("plain text on a task", "task t1 not found"),
    ("ingress-nginx", "default backend - 404"),
    (
        "nginx",
        "<html><head><title>404 Not Found</title></head><body><center><h1>404 Not Found</h1></center></body></html>",
    ),
    (
        "S3",
        r#"<?xml version="1.0"?><Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>"#,
    ),
    ("Kong", r#"{"message":"no Route matched with those values"}"#),
    ("Kong 3", r#"{"message":"no Route matched with those values","request_id":"3a1b"}"#),
    ("AWS API Gateway", r#"{"message":"Missing Authentication Token"}"#),
    ("AWS", r#"{"__type":"ResourceNotFoundException","message":"Requested resource not found"}"#),
    ("Azure", r#"{"error":{"code":"ResourceNotFound","message":"The resource was not found."}}"#),
    ("Azure API Management", r#"{"statusCode":404,"message":"Resource not found"}"#),
    ("Google", r#"{"error":{"code":404,"message":"Requested entity was not found.","status":"NOT_FOUND"}}"#),
    (
        "Kubernetes",
        r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"jobs not found","reason":"NotFound","details":{},"code":404}"#,
    ),
    (
        "Spring",
        r#"{"timestamp":"2026-01-05T10:00:00.000+00:00","status":404,"error":"Not Found","path":"/v1/p/jobs/t1"}"#,
    ),
    (
        "Spring, older",
        r#"{"timestamp":1457422813219,"status":404,"error":"Not Found","message":"No message available","path":"/x"}"#,
    ),
    (
        "Spring problem",
        r#"{"type":"about:blank","title":"Not Found","status":404,"detail":"No static resource x.","instance":"/x"}"#,
    ),
    (
        "ASP.NET",
        r#"{"type":"https://tools.ietf.org/html/rfc9110#section-15.5.5","title":"Not Found","status":404,"traceId":"00-1"}"#,
    ),
    (
        "a problem with a name",
        r#"{"type":"https://example.com/problems/not-found","title":"Not found","detail":"gone","status":"404"}"#,
    ),
    ("Express", r#"{"error":"not found"}"#),
    ("Express, shouting", r#"{"error":"NOT_FOUND"}"#),
    ("Fastify", r#"{"message":"Route GET:/x not found","error":"Not Found","statusCode":404}"#),
    ("Nest", r#"{"statusCode":404,"message":"Cannot GET /x","error":"Not Found"}"#),
    ("Django", r#"{"detail":"Not found."}"#),
    ("FastAPI", r#"{"detail":[{"loc":["path"],"msg":"field required","type":"missing"}]}"#),
    ("APISIX", r#"{"error_msg":"404 Route Not Found"}"#),
    ("WSO2", r#"{"code":"404","type":"Status report","message":"Not Found","description":"No matching resource"}"#),
    ("WSO2 fault", r#"{"fault":{"code":900906,"message":"No matching resource found"}}"#),
    (
        "Apigee",
        r#"{"fault":{"faultstring":"Unable to identify proxy","detail":{"errorcode":"messaging.adaptors.http.flow.ApplicationNotFound"}}}"#,
    ),
    ("a code that is HTTP's", r#"{"code":404,"message":"task not found"}"#),
    ("as text", r#"{"code":"404","message":"Not Found"}"#),
    ("a word for a code", r#"{"code":"NOT_FOUND","message":"job t1 not found"}"#),
    ("a flat word", r#"{"error_code":"NotFound","error_msg":"job not found"}"#),
    ("within data", r#"{"code":404,"data":null,"msg":"not found"}"#),
    ("a success that is none", r#"{"success":false,"errorCode":"404","errorMessage":"not found"}"#),
    ("GraphQL", r#"{"errors":[{"message":"not found","code":"NOT_FOUND"}]}"#),
    ("JSON:API", r#"{"errors":[{"status":"404","title":"Not Found","detail":"no such page"}]}"#),
    ("grpc-gateway, no route", r#"{"code":5,"message":"Not Found","details":[]}"#),
    ("grpc-gateway, older", r#"{"error":"Not Found","code":5,"message":"Not Found"}"#),
    ("grpc-gateway, no words", r#"{"code":5,"message":"","details":[]}"#),
    ("grpc, no method", r#"{"code":5,"message":"unknown method tasks for service x","details":[]}"#),
    ("grpc in text", r#"{"code":"5","message":"Not Found."}"#),
    ("a bare text", r#""not found""#),
    ("a number", "404"),
    ("null", "null"),
    ("a list", r#"[{"code":5,"message":"task not found"}]"#),
    ("an empty object", "{}"),
    ("broken JSON", r#"{"error":{"code":"Common.0011","message":"query job fa"#),
];

/// What each provider makes of it, asked for a task and for a list.
fn failures(status: u16, body: &str) -> Vec<(&'static str, Failure)> {
    let answer = answer(status, body.to_owned());
    let asked = TaskRef { scope: "s1".to_owned(), id: "t1".to_owned() };
    let of = |name: &'static str| {
        let provider = provider(name);
        let single = provider.decode_task(&asked, &answer).unwrap_err();
        let list = provider.decode_list("s1", &answer, &|_: &str| true).unwrap_err();
        [(name, single), (name, list)]
    };
    names().flat_map(of).collect()
}

#[test]
fn what_is_not_in_the_words_of_the_api_concludes_nothing() {
    for (title, body) in FOREIGN {
        for status in [400, 402, 403, 404, 405, 410, 421, 451] {
            for (name, failure) in failures(status, body) {
                assert_eq!(failure.class, FailureClass::InvalidAnswer, "{name}, {title}, {status}: {failure}");
                assert!(
                    failure.explain().contains("endpoint") || failure.message.contains("does not list"),
                    "{failure}"
                );
            }
        }
        for (name, failure) in failures(401, body) {
            // Huawei Cloud has no list, whatever is answered.
            if !failure.message.contains("does not list") {
                assert_eq!(failure.class, FailureClass::AuthenticationFailed, "{name}, {title}: {failure}");
                assert!(failure.message.contains("not in the words of the API"), "{failure}");
            }
        }
        // Nor under a status of success; but proto3 JSON writes an empty list as `{}`.
        if *title == "an empty object" {
            continue;
        }
        for (name, failure) in failures(200, body) {
            if !failure.message.contains("does not list") {
                assert_eq!(failure.class, FailureClass::InvalidAnswer, "{name}, {title}, 200: {failure}");
            }
        }
    }
}

/// Codes that another program compares come from the API alone: a gateway cannot speak for the operator's own parts.
#[test]
fn a_foreign_code_is_told_but_not_taken() {
    for code in ["TooLarge", "EgressDenied", "404"] {
        for (_, failure) in failures(404, &format!(r#"{{"code":"{code}","message":"x"}}"#)) {
            assert_eq!(failure.code, "", "{failure}");
        }
    }
}

#[test]
fn the_own_words_of_each_api_are_heard() {
    use FailureClass::{
        AuthenticationFailed, InvalidAnswer, InvalidRequest, NotFound, PermissionDenied, RateLimited, ScopeNotFound,
    };
    let problem =
        |number: u32| format!(r#"{{"type":"https://astra.example/problems/{number}","title":"a","detail":"b"}}"#);
    for (name, status, body, class) in [
        ("huaweiCloud", 400, r#"{"error":{"code":"Common.0011","message":"query job fail."}}"#.to_owned(), NotFound),
        (
            "huaweiCloud",
            404,
            r#"{"error_code":"DBS.280272","error_msg":"The job does not exist."}"#.to_owned(),
            NotFound,
        ),
        ("huaweiCloud", 410, r#"{"errCode":"SFS.TURBO.0009","errMsg":"gone"}"#.to_owned(), NotFound),
        ("huaweiCloud", 404, r#"{"itemNotFound":{"code":404,"message":"no such job"}}"#.to_owned(), NotFound),
        ("huaweiCloud", 404, r#"{"badRequest":{"code":404,"message":"no such job"}}"#.to_owned(), InvalidAnswer),
        ("huaweiCloud", 404, r#"{"error_code":"APIG.0201","error_msg":"Backend timeout."}"#.to_owned(), InvalidAnswer),
        (
            "huaweiCloud",
            404,
            r#"{"error":{"code":404,"message":"Could not find","title":"Not Found"}}"#.to_owned(),
            InvalidAnswer,
        ),
        ("huaweiCloud", 403, r#"{"error_code":"EVS.0050","error_msg":"forbidden"}"#.to_owned(), PermissionDenied),
        (
            "huaweiCloud",
            401,
            r#"{"error_code":"EVS.0051","error_msg":"Policy doesn't allow evs:jobs:get to be performed."}"#.to_owned(),
            PermissionDenied,
        ),
        ("huaweiCloud", 401, r#"{"error_code":"APIGW.0302","error_msg":"x"}"#.to_owned(), PermissionDenied),
        ("huaweiCloud", 401, r#"{"error_code":"EVS.0051","error_msg":"bad token"}"#.to_owned(), AuthenticationFailed),
        ("huaweiCloud", 400, r#"{"error_code":"EVS.0060","error_msg":"bad id"}"#.to_owned(), InvalidRequest),
        ("cloudRu", 404, r#"{"code":5,"message":"task t1 not found"}"#.to_owned(), NotFound),
        ("cloudRu", 400, r#"{"code":9,"message":"task t1 not found"}"#.to_owned(), NotFound),
        ("cloudRu", 404, r#"{"code":5,"message":"service instance s1 not found"}"#.to_owned(), ScopeNotFound),
        ("cloudRu", 404, r#"{"code":12,"message":"Not Implemented"}"#.to_owned(), InvalidAnswer),
        ("cloudRu", 403, r#"{"code":7,"message":"no"}"#.to_owned(), PermissionDenied),
        ("cloudRu", 401, r#"{"code":7,"message":"no"}"#.to_owned(), PermissionDenied),
        ("cloudRu", 400, r#"{"code":3,"message":"bad id"}"#.to_owned(), InvalidRequest),
        ("cloudRu", 429, r#"{"code":8,"message":"slowly"}"#.to_owned(), RateLimited),
        ("astraControl", 404, problem(1), NotFound),
        ("astraControl", 404, problem(2), ScopeNotFound),
        ("astraControl", 404, problem(999), InvalidAnswer),
        ("astraControl", 404, r#"{"code":"1","message":"not found"}"#.to_owned(), InvalidAnswer),
        ("astraControl", 401, problem(11), PermissionDenied),
        ("astraControl", 403, problem(14), PermissionDenied),
        ("astraControl", 400, problem(5), InvalidRequest),
    ] {
        let asked = TaskRef { scope: "s1".to_owned(), id: "t1".to_owned() };
        let failure = provider(name).decode_task(&asked, &answer(status, body.clone())).unwrap_err();
        assert_eq!(failure.class, class, "{name}, {status} {body}: {failure}");
    }
}

#[test]
fn nor_does_a_gateway_speak_for_who_issues_tokens() {
    for (title, body) in FOREIGN {
        for status in [400, 403, 404, 410] {
            for credential in auth::exchanged() {
                let failure = credential.decode_token(&answer(status, (*body).to_owned()), now()).unwrap_err();
                let is_rpc = title.starts_with("grpc");
                assert!(is_rpc || failure.class == FailureClass::InvalidAnswer, "{title}, {status}: {failure}");
            }
        }
        for credential in auth::exchanged() {
            let failure = credential.decode_token(&answer(401, (*body).to_owned()), now()).unwrap_err();
            assert_eq!(failure.class, FailureClass::AuthenticationFailed, "{title}: {failure}");
        }
    }
}
