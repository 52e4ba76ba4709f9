use super::{answer, decode, errors, golden, provider};
use crate::domain::{
    failure::FailureClass,
    task::{TaskRef, TaskState},
};

#[test]
fn jobs() {
    let found = golden(
        "huaweiCloud",
        &[
            (
                "seed: running",
                200,
                r#"{"status":"RUNNING","entities":{"volume_id":"bdf1bb37-f20f-4266-9a04-f43e0a127376"},"job_id":"4010a32d535527910153552b492c0002","job_type":"createVolume","begin_time":"2016-03-08T07:40:13.219Z","end_time":""}"#,
            ),
            (
                "EVS: succeeded, nulls for no error",
                200,
                r#"{"status":"SUCCESS","entities":{"volume_id":"v1","volume_type":"SSD","size":40,"name":"disk"},"job_id":"j1","job_type":"createVolume","begin_time":"2016-03-08T07:40:13.219Z","end_time":"2016-03-08T07:41:13.219Z","error_code":null,"fail_reason":null}"#,
            ),
            (
                "EVS: failed",
                200,
                r#"{"status":"FAIL","entities":{},"job_id":"j1","job_type":"deleteVolume","begin_time":"2016-03-08T07:40:13.219Z","end_time":"2016-03-08T07:41:13.219Z","error_code":"EVS.2024","fail_reason":"EbsDeleteVolumeTask-fail:Volume status is\n \u001b[31min-use\u001b[0m"}"#,
            ),
            (
                "ECS: running with sub-jobs (TFHW issue 1944: no error keys, a child without entities, a server_id while running)",
                200,
                r#"{"status":"RUNNING","entities":{"sub_jobs_total":2,"sub_jobs":[{"status":"RUNNING","entities":{"server_id":"s1"},"job_id":"c1","job_type":"createSingleServer","begin_time":"2022-02-17T03:00:00.000Z","end_time":""},{"status":"INIT","job_id":"c2","job_type":"createSingleServer"}]},"job_id":"j2","job_type":"createServer","begin_time":"2022-02-17T03:00:00.000Z","end_time":""}"#,
            ),
            (
                "ECS: failed, the reason only in the child",
                200,
                r#"{"status":"FAIL","entities":{"sub_jobs_total":1,"sub_jobs":[{"status":"FAIL","entities":{"server_id":"s1","errorcode_message":"no valid host"},"job_id":"c1","job_type":"createSingleServer","error_code":"Ecs.0219","fail_reason":null}]},"job_id":"j2","job_type":"createServer","error_code":null,"fail_reason":null}"#,
            ),
            (
                "sub-jobs at the top (GTC)",
                200,
                r#"{"status":"SUCCESS","job_id":"j2","job_type":"createServer","sub_jobs":[{"status":"SUCCESS","job_id":"c1","entities":{"server_id":"s1"}}]}"#,
            ),
            (
                "IMS: sub_jobs_result, process_percent",
                200,
                r#"{"status":"RUNNING","entities":{"process_percent":0.67,"current_task":"x","sub_jobs_list":["c1"],"sub_jobs_result":[{"status":"SUCCESS","job_id":"c1","entities":{"image_id":"i1"}}]},"job_id":"j3","job_type":"imsCopyImage","begin_time":"2020-01-01T00:00:00.000Z"}"#,
            ),
            (
                "IMS: failed, the error in the entities",
                200,
                r#"{"status":"FAIL","entities":{"error_code":"IMG.0118","error":"image too large","addition_error_msg":"limit 1 TB","alarm_code":"17"},"job_id":"j3","job_type":"imsImportImage","error_code":"","fail_reason":""}"#,
            ),
            (
                "RDS: wrapped, zone without a colon, percent as text",
                200,
                r#"{"job":{"id":"r1","name":"CreateMysqlSingleHAInstance","status":"Running","created":"2018-08-06T10:41:14+0800","process":"60%","ended":"2018-08-06T10:42:14+0000"}}"#,
            ),
            (
                "openGauss: fail_reason is a number",
                200,
                r#"{"job":{"id":"r2","name":"x","status":"Failed","ended":"2018-08-06T10:42:14+0000","fail_reason":500000}}"#,
            ),
            (
                "GaussDB NoSQL: an array, though one was asked for",
                200,
                r#"{"jobs":[{"id":"g1","name":"x","status":"Completed","start_time":"2020-01-01T00:00:00+0000","end_time":"2020-01-01T00:01:00+0000","progress":"","fail_reason":""}],"total_count":1}"#,
            ),
            (
                "ELB: complete, empty error texts, entities arrays",
                200,
                r#"{"job":{"job_id":"e1","status":"COMPLETE","error_code":"","error_msg":"","entities":[],"sub_jobs":[{"job_id":"e2","status":"SUCCESS","entities":[{"resource_id":"x"}]}]},"request_id":"q"}"#,
            ),
        ],
    );
    insta::assert_snapshot!(found);
}

#[test]
fn the_status_word_alone_decides() {
    let job = |status: &str, more: &str| {
        let body = format!(r#"{{"status":{status},"job_id":"j","job_type":"t"{more}}}"#);
        decode("huaweiCloud", 200, &body)["task"].take()
    };
    for (word, state) in [
        ("INIT", "Pending"),
        ("WAITING_EXECUTE", "Pending"),
        ("PENDING_PAYMENT", "Pending"),
        ("RUNNING", "Running"),
        ("LISTENING", "Running"),
        ("ROLLBACKING", "Running"),
        ("SOMETHING_NEW", "Running"),
        ("SUCCESS", "Succeeded"),
        ("success", "Succeeded"),
        ("FAIL", "Failed"),
        ("ROLLBACK_FAIL", "Failed"),
        ("CANCEL", "Cancelled"),
        ("CANCELLED", "Cancelled"),
    ] {
        let task = job(&format!("{word:?}"), "");
        assert_eq!((task["state"].as_str(), task["upstreamState"].as_str()), (Some(state), Some(word)));
    }
    for number in ["0", "1", "2", "-1"] {
        assert_eq!(job(number, "")["state"], "Running", "the numbers of CPH and WorkspaceApp contradict each other");
    }

    let task = job(r#""SUCCESS""#, r#","error_code":"111400060","fail_reason":"left over","progress":0"#);
    assert_eq!((&task["state"], &task["error"], &task["percent"]), (&"Succeeded".into(), &().into(), &0.into()));
    let task = job(r#""RUNNING""#, r#","end_time":"2020-01-01T00:00:00Z","error_code":"X","process":"100%""#);
    assert_eq!((&task["state"], &task["error"], &task["completionTime"]), (&"Running".into(), &().into(), &().into()));
    let task = job(r#""FAIL""#, r#","end_time":"not a time","fail_resson":"misspelt","entities":null"#);
    assert_eq!((&task["error"]["message"], &task["completionTime"]), (&"misspelt".into(), &().into()));
}

#[test]
fn error_answers() {
    let found = errors(
        "huaweiCloud",
        &[
            (400, r#"{"error":{"message":"XXXX","code":"XXX"}}"#),
            (400, r#"{"error":{"code":"Common.0011","message":"query job fail."}}"#),
            (400, r#"{"error":{"code":"Common.0013","message":"Invalid token in the header."}}"#),
            (
                400,
                r#"{"error":{"code":"Common.0018","message":"The tenant ID in the token does not match that in the URL."}}"#,
            ),
            (401, r#"{"error_msg":"The token must be updated.","error_code":"APIGW.0307","request_id":"3a1b"}"#),
            (
                401,
                r#"{"error_msg":"Incorrect IAM authentication information: calc aksk signature fail:signature expired, signature time:20260105T064303Z,server time:20260105T065904Z","error_code":"APIGW.0301"}"#,
            ),
            (
                401,
                r#"{"error_msg":"Incorrect IAM authentication information: AK access failed to reach the limit,forbidden.","error_code":"APIGW.0301"}"#,
            ),
            (
                401,
                r#"{"error_msg":"Incorrect IAM authentication information: Get secretKey failed,ak:******,err:ak not exist","error_code":"APIGW.0301"}"#,
            ),
            (
                401,
                r#"{"error_msg":"Incorrect IAM authentication information: verify aksk signature fail","error_code":"APIGW.0301"}"#,
            ),
            (401, r#"{"error_msg":"Incorrect IAM authentication information","error_code":"APIGW.0301"}"#),
            (
                401,
                r#"{"error_msg":"Incorrect IAM authentication information: decrypt token fail","error_code":"APIG.0301","request_id":"3a1b"}"#,
            ),
            (
                404,
                r#"{"error_msg":"The API does not exist or has not been published in the environment","error_code":"APIGW.0101","request_id":"3a1b"}"#,
            ),
            (404, r#"{"error_msg":"The backend does not exist.","error_code":"APIGW.0103"}"#),
            (
                429,
                r#"{"error_msg":"The throttling threshold has been reached: policy user over ratelimit,limit:200,time:5 minute","error_code":"APIGW.0308","request_id":"x"}"#,
            ),
            (202, r#"{"error":{"code":"Common.0024","message":"Flow limit exceeded"}}"#),
            (200, r#"{"code":"Ecs.0614","message":"query failed","job_id":null,"status":null}"#),
            (200, r#"{"error":{"code":401,"message":"The token expired","title":"Unauthorized"}}"#),
            (403, r#"{"error":{"code":403,"message":"Policy doesn't allow evs:jobs:get","title":"Forbidden"}}"#),
            (404, r#"{"itemNotFound":{"code":404,"message":"job could not be found"}}"#),
            (404, ""),
            (404, "<html><h1>404</h1></html>"),
            (404, "default backend - 404"),
            (409, r#"{"errCode":"SFS.TURBO.0001","errMsg":"conflict"}"#),
            (408, ""),
            (400, r#"{"errCode":"X.1","externalMessage":"outside"}"#),
            (400, r#"{"errorCode":"X.2","errorMessage":"inside"}"#),
            (400, r#"{"message":{"code":"LTS.0201","details":"invalid project"}}"#),
            (400, r#"{"error":{"error_code":"X.3","error_msg":"deep"}}"#),
            (400, r#"{"error":{"code":"X.4","message":"both"},"error_code":"X.4","error_msg":"both"}"#),
            (400, r#"{"code":"X.5","message":"flat","request_id":"r"}"#),
            (500, r#"{"error_code":"APIG.0601","error_msg":"Internal server error"}"#),
            (502, "<html>Bad Gateway</html>"),
            (503, "upstream connect error"),
            (302, ""),
            (200, "<!doctype html><html>log in</html>"),
            (200, ""),
            (200, r#"{"status":"SUCC"#),
            (200, "[]"),
            (200, "{}"),
            (200, r#"{"status":"SUCCESS"}"#),
            (204, ""),
        ],
    );
    insta::assert_snapshot!(found);
}

#[test]
fn another_job_is_no_answer() {
    let asked = TaskRef { scope: "p".to_owned(), id: "j1".to_owned() };
    let provider = provider("huaweiCloud");
    let decode = |body: &str| provider.decode_task(&asked, &answer(200, body.to_owned()));
    let failure = decode(r#"{"status":"SUCCESS","job_id":"j2"}"#).unwrap_err();
    assert_eq!(failure.class, FailureClass::InvalidAnswer);
    assert_eq!(failure.message, "Asked for job j1, Huawei Cloud answered with another job, j2");
    assert_eq!(decode(r#"{"status":"SUCCESS","job_id":"J1"}"#).unwrap().state, TaskState::Succeeded);
    assert_eq!(decode(r#"{"status":"SUCCESS","job_type":"x"}"#).unwrap().id, "j1");
}

#[test]
fn what_has_begun_is_a_job_though_nothing_names_it() {
    for key in ["begin_time", "start_time"] {
        let body = format!(r#"{{"status":"RUNNING","{key}":"2016-03-08T07:40:13.219Z"}}"#);
        let task = TaskRef { scope: "p".into(), id: "j1".into() };
        let found = provider("huaweiCloud").decode_task(&task, &answer(200, body)).unwrap();
        assert_eq!((found.id.as_str(), found.state), ("j1", TaskState::Running), "{key}");
    }
}
