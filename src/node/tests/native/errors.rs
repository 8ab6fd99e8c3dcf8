//! Bad requests, health, and the document.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::ask::batch;
use super::super::world::World;
use super::http::Http;

const JSON: &str = "Content-Type: application/json\r\n";

#[tokio::test(start_paused = true)]
async fn every_bad_request_gets_its_code_and_a_hint() {
    let world = World::start_with(&[("braid.native.request.max.bytes", "4096")]).await;
    let mut http = Http::connect(&world).await;
    let large = format!("{{\"name\":\"{}\"}}", "x".repeat(5000));
    for (method, path, headers, body, status, code) in [
        ("GET", "/", "", "", 404, "ROUTE_NOT_FOUND"),
        ("GET", "/api/v1/nothing", "", "", 404, "ROUTE_NOT_FOUND"),
        ("PUT", "/api/v1/topics", "", "", 405, "METHOD_NOT_ALLOWED"),
        ("DELETE", "/livez", "", "", 405, "METHOD_NOT_ALLOWED"),
        ("POST", "/api/v1/topics", "", "{}", 415, "UNSUPPORTED_MEDIA_TYPE"),
        (
            "POST",
            "/api/v1/topics",
            "Content-Type: text/plain\r\n",
            "{}",
            415,
            "UNSUPPORTED_MEDIA_TYPE",
        ),
        ("POST", "/api/v1/topics", JSON, "", 400, "MALFORMED_JSON"),
        ("POST", "/api/v1/topics", JSON, "{", 400, "MALFORMED_JSON"),
        ("POST", "/api/v1/topics", JSON, "{} {}", 422, "INVALID_BODY"),
        ("POST", "/api/v1/topics", JSON, "{\"name\":\"a\"} x", 400, "MALFORMED_JSON"),
        ("POST", "/api/v1/topics", JSON, "{\"name\":\"\\ud800\"}", 400, "MALFORMED_JSON"),
        ("POST", "/api/v1/topics", JSON, "[]", 422, "INVALID_BODY"),
        ("POST", "/api/v1/topics", JSON, "{\"name\":1}", 422, "INVALID_BODY"),
        ("POST", "/api/v1/topics", JSON, "{\"name\":\"a\",\"partition\":1}", 422, "INVALID_BODY"),
        (
            "POST",
            "/api/v1/topics",
            JSON,
            "{\"name\":\"a\",\"messageType\":\"MIXED\"}",
            422,
            "INVALID_BODY",
        ),
        ("POST", "/api/v1/topics", JSON, &large, 413, "BODY_TOO_LARGE"),
    ] {
        let answer = http.send(method, path, headers, body.as_bytes()).await;
        assert_eq!(answer.error(status), code, "{method} {path} {body:.40}");
        // What is refused before its body was read ends the connection.
        http = Http::connect(&world).await;
    }
    for (path, code) in [
        ("/api/v1/topics?limit=0", "INVALID_PARAMETER"),
        ("/api/v1/topics?limit=1001", "INVALID_PARAMETER"),
        ("/api/v1/topics?limit=x", "INVALID_PARAMETER"),
        ("/api/v1/topics?lmit=1", "INVALID_PARAMETER"),
        ("/api/v1/topics/%ff", "INVALID_PARAMETER"),
    ] {
        assert_eq!(http.get(path).await.error(400), code, "{path}");
    }
    assert_eq!(http.get("/api/v1/topics/nothing").await.error(404), "TOPIC_NOT_FOUND");
    // What is no HTTP is answered by nothing worse than a hang-up, and others are served on.
    for bytes in [&b"\0\0\0\x10garbage"[..], b"GET / HTTP/9.9\r\n\r\n", b"\r\n\r\n\r\n"] {
        let answer = Http::connect(&world).await.raw(bytes).await;
        assert!(answer.is_none_or(|answer| answer.status == 400), "{bytes:?}");
    }
    assert_eq!(Http::connect(&world).await.get("/livez").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_body_of_unknown_length_is_bounded_too() {
    let world = World::start_with(&[("braid.native.request.max.bytes", "1024")]).await;
    let mut http = Http::connect(&world).await;
    let mut bytes =
        b"POST /api/v1/topics HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
        Transfer-Encoding: chunked\r\n\r\n"
            .to_vec();
    for _ in 0..3 {
        bytes.extend_from_slice(format!("200\r\n{}\r\n", " ".repeat(512)).as_bytes());
    }
    let answer = http.raw(&bytes).await.expect("an answer comes before the end of the body");
    assert_eq!(answer.error(413), "BODY_TOO_LARGE");
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_runs_is_live_ready_and_measured() {
    let world = World::start().await;
    world.client().await.create("orders", 2, &[]).await;
    let mut http = Http::connect(&world).await;
    assert_eq!(http.get("/livez").await.text(), "ok\n");
    let ready = http.get("/readyz").await;
    assert_eq!((ready.status, ready.text()), (200, "ok\n"));
    let verbose = http.get("/readyz?verbose").await;
    let expected = ["running", "metadata", "groups", "half-messages", "deliveries"];
    let expected = expected.map(|name| format!("[+]{name} ok\n")).concat();
    assert_eq!(verbose.text(), format!("{expected}ok\n"));
    let metrics = http.get("/metrics").await;
    assert_eq!(metrics.status, 200);
    for line in [
        "kafka_brokers 1",
        "kafka_topic_partitions{topic=\"orders\"} 2",
        "rocketmq_messages_in_total{topic=\"orders\"} 0",
        "braid_half_message_age_max_ms 0",
        "rocketmq_timer_enqueue_total 0",
        "rocketmq_timer_dequeue_latency 0",
        "rocketmq_storage_size 1048576",
        "rocketmq_storage_flush_behind_bytes 0",
        "rocketmq_storage_dispatch_behind_bytes 0",
        "kafka_topic_partition_current_offset{topic=\"orders\",partition=\"1\"} 0",
        "kafka_server_brokertopicmetrics_messagesin_total{topic=\"orders\"} 0",
        "# EOF",
    ] {
        assert!(metrics.text().lines().any(|found| found == line), "{line}: {}", metrics.text());
    }
}

#[tokio::test(start_paused = true)]
async fn what_clients_of_kafkas_protocol_do_is_counted() {
    let world = World::start().await;
    let mut client = world.client().await;
    client.create("orders", 2, &[]).await;
    let records = batch(&["a", "b"]);
    let size = records.len();
    client.produce("orders", 0, records.clone()).await;
    client.produce("orders", 1, records).await;
    client.refused("orders", 7, batch(&["a"])).await;
    client.fetch("orders", 0, 0).await;
    let mut http = Http::connect(&world).await;
    let metrics = http.get("/metrics").await;
    let topic = "kafka_server_brokertopicmetrics";
    for line in [
        format!("{topic}_messagesin_total{{topic=\"orders\"}} 4"),
        format!("{topic}_bytesin_total{{topic=\"orders\"}} {}", 2 * size),
        format!("{topic}_bytesout_total{{topic=\"orders\"}} {size}"),
        format!("{topic}_totalproducerequests_total{{topic=\"orders\"}} 3"),
        format!("{topic}_failedproducerequests_total{{topic=\"orders\"}} 1"),
        format!("{topic}_totalfetchrequests_total{{topic=\"orders\"}} 1"),
        format!("{topic}_failedfetchrequests_total{{topic=\"orders\"}} 0"),
        "kafka_network_requestmetrics_requests_total{request=\"Produce\"} 3".to_owned(),
        "kafka_network_requestmetrics_requests_total{request=\"CreateTopics\"} 1".to_owned(),
        "braid_http_stalled_connections_closed_total 0".to_owned(),
    ] {
        assert!(metrics.text().lines().any(|found| found == line), "{line}: {}", metrics.text());
    }
    let open = "kafka_server_socket_server_metrics_connection_count{listener=";
    let open: Vec<_> = metrics.text().lines().filter(|line| line.starts_with(open)).collect();
    assert!(open.len() == 1 && open[0].ends_with("networkProcessor=\"0\"} 1"), "{open:?}");
}

#[tokio::test(start_paused = true)]
async fn what_becomes_of_native_messages_is_counted() {
    let world = World::start().await;
    let mut http = Http::connect(&world).await;
    let halves = json!({"name": "h", "messageType": "TRANSACTION"});
    http.post("/api/v1/topics", halves).await.of(201);
    http.post("/api/v1/topics", json!({"name": "t"})).await.of(201);
    for decision in ["commit", "commit", "rollback"] {
        let half = json!({"payload": "x", "producerGroup": "p"});
        let sent = http.post("/api/v1/topics/h/half-messages", half).await.of(200);
        let id = sent["transactionId"].as_str().unwrap();
        let path = format!("/api/v1/half-messages/{id}/{decision}");
        http.post(&path, json!({})).await.of(200);
    }
    let two = json!({"messages": [{"payload": "a"}, {"payload": "b"}]});
    http.post("/api/v1/topics/t/messages", two).await.of(200);
    let got = http.post("/api/v1/groups/g/receive", json!({"topic": "t", "max": 2})).await.of(200);
    let handle = |n: usize| got["messages"][n]["handle"].clone();
    http.post("/api/v1/groups/g/ack", json!({"handles": [handle(0)]})).await.of(200);
    http.post("/api/v1/groups/g/dead-letter", json!({"handle": handle(1)})).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let metrics = http.get("/metrics").await;
    for line in [
        "rocketmq_commit_messages_total 2",
        "rocketmq_rollback_messages_total 1",
        "braid_half_messages_expired_total 0",
        "rocketmq_messages_out_total 2",
        "braid_messages_acknowledged_total 1",
        "rocketmq_send_to_dlq_messages_total 1",
    ] {
        assert!(metrics.text().lines().any(|found| found == line), "{line}: {}", metrics.text());
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_reads_its_answers_loses_its_connection() {
    let world = World::start().await;
    let mut greedy = Http::connect(&world).await;
    let asked = "GET /api/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
    let begun = tokio::time::Instant::now();
    greedy.write_until_closed(asked.as_bytes()).await;
    let lost_after = begun.elapsed();
    assert!((29..32).contains(&lost_after.as_secs()), "{lost_after:?}");
    let mut http = Http::connect(&world).await;
    let metrics = http.get("/metrics").await;
    let line = "braid_http_stalled_connections_closed_total 1";
    assert!(metrics.text().lines().any(|found| found == line), "{}", metrics.text());
}

/// Everything that the document refers to, it also defines.
fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(target) if name == "$ref" => drop(found.insert(target)),
                    _ => references(member, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[tokio::test(start_paused = true)]
async fn the_document_describes_every_route_and_refers_to_nothing_that_is_missing() {
    let world = World::start().await;
    let mut http = Http::connect(&world).await;
    let document = http.get("/api/openapi.json").await.of(200);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() > 5, "{found:?}");
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} is not defined");
    }
    let codes = document["components"]["schemas"]["Code"].to_string();
    assert!(codes.contains("\"TOPIC_NOT_FOUND\"") && !codes.contains("TopicNotFound"), "{codes}");
    let mut names = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(names.insert(id.to_owned()), "{id} stands twice");
            assert!(operation["tags"][0].is_string() && operation["summary"].is_string(), "{id}");
            // It is routed: the path is known, and the method too.
            let path = path.replace(['{', '}'], "");
            let body = (method != "get").then(|| json!({}));
            let answer = http.call(&method.to_uppercase(), &path, body).await;
            let refused = answer.text().contains("ROUTE_NOT_FOUND") || answer.status == 405;
            assert!(!refused, "{method} {path}: {}", answer.text());
        }
    }
}
