//! Half messages by HTTP: nobody sees them before they are committed, and who sent them is asked.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::ask::fetch;
use super::super::world::World;
use super::http::Http;

async fn world() -> (World, Http) {
    let world = World::start().await;
    let mut http = Http::connect(&world).await;
    let topic = json!({"name": "t", "messageType": "TRANSACTION"});
    http.post("/api/v1/topics", topic).await.of(201);
    (world, http)
}

async fn send(http: &mut Http, id: &str) -> Value {
    let half = json!({"payload": {"text": id}, "key": "k", "messageId": id, "tags": "a",
        "headers": [{"name": "h", "value": "1"}], "producerGroup": "p"});
    http.post("/api/v1/topics/t/half-messages", half).await.of(200)
}

fn path(sent: &Value, what: &str) -> String {
    format!("/api/v1/half-messages/{}{what}", sent["transactionId"].as_str().unwrap())
}

async fn end_of_topic(world: &World) -> i64 {
    let fetched = world.client().await.call(12, &fetch("t", 0, 0)).await;
    fetched.responses[0].partitions[0].high_watermark
}

#[tokio::test(start_paused = true)]
async fn a_half_message_is_seen_once_it_is_committed_and_never_when_rolled_back() {
    let (world, mut http) = world().await;
    let (one, two) = (send(&mut http, "one").await, send(&mut http, "two").await);
    assert_eq!((&one["duplicate"], &one["messageId"]), (&json!(false), &json!("one")));
    assert_eq!(end_of_topic(&world).await, 0, "nobody sees them");
    let again = send(&mut http, "one").await;
    assert_eq!(
        (&again["transactionId"], &again["duplicate"]),
        (&one["transactionId"], &json!(true))
    );
    let listed = http.get("/api/v1/half-messages?producerGroup=p").await.of(200);
    let halves = listed["halfMessages"].as_array().unwrap();
    assert_eq!((halves.len(), &halves[0]["topic"]), (2, &json!("t")));
    let shown = http.get(&path(&one, "")).await.of(200);
    assert_eq!((&shown["state"], &shown["payload"]["text"]), (&json!("pending"), &json!("one")));

    let other = json!({"producerGroup": "q"});
    let refused = http.post(&path(&one, "/commit"), other).await;
    assert_eq!(refused.error(403), "HALF_MESSAGE_OF_ANOTHER_GROUP");
    for _ in 0..2 {
        let done = http.post(&path(&one, "/commit"), json!({"producerGroup": "p"})).await.of(200);
        assert_eq!((&done["state"], &done["offset"]), (&json!("committed"), &json!(0)));
        let done = http.call("POST", &path(&two, "/rollback"), None).await.of(200);
        assert_eq!(done["state"], "rolledBack");
    }
    let refused = http.post(&path(&two, "/commit"), json!({})).await;
    assert_eq!(refused.error(409), "HALF_MESSAGE_ENDED");
    assert_eq!(end_of_topic(&world).await, 1);
    let page = http.get("/api/v1/topics/t/messages").await.of(200);
    let message = &page["messages"][0];
    assert_eq!((&message["messageId"], &message["tags"]), (&json!("one"), &json!("a")));
    let names: Vec<_> = message["headers"].as_array().unwrap().iter().map(|h| &h["name"]).collect();
    assert_eq!(names.iter().filter(|name| **name == "UNIQ_KEY").count(), 1, "{names:?}");
    let shown = http.get(&path(&one, "")).await.of(200);
    assert_eq!((&shown["state"], &shown["endedBy"]), (&json!("committed"), &json!("producer")));
}

#[tokio::test(start_paused = true)]
async fn producers_are_asked_by_a_long_poll() {
    let (_world, mut http) = world().await;
    let one = send(&mut http, "one").await;
    let checks = "/api/v1/producer-groups/p/checks";
    assert_eq!(http.get(checks).await.of(200), json!({"checks": []}), "it is too early");
    let asked = http.get(&format!("{checks}?waitMs=20000&max=5")).await.of(200);
    let check = &asked["checks"][0];
    assert_eq!((&check["transactionId"], &check["check"]), (&one["transactionId"], &json!(1)));
    assert_eq!((&check["messageId"], &check["payload"]["text"]), (&json!("one"), &json!("one")));
    assert_eq!(http.get(checks).await.of(200), json!({"checks": []}));
    http.call("POST", &path(&one, "/check"), None).await.of(204);
    assert_eq!(http.get(checks).await.of(200)["checks"][0]["check"], 2);
}

/// Takes one post and answers it.
async fn answer_once(world: &World, address: &str, decision: Option<&str>) -> Value {
    let listener = world.env.net.listen(address).await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut received = Vec::new();
    let body = loop {
        let mut part = [0; 4096];
        let count = stream.read(&mut part).await.unwrap();
        received.extend_from_slice(&part[..count]);
        let text = String::from_utf8_lossy(&received).into_owned();
        let Some((_, body)) = text.split_once("\r\n\r\n") else { continue };
        if let Ok(body) = serde_json::from_str::<Value>(body) {
            break body;
        }
    };
    let decided: Vec<_> = body["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|check| {
            Some(json!({"transactionId": check["transactionId"], "decision": decision?}))
        })
        .collect();
    let (status, text) = match decision {
        Some(_) => ("200 OK", json!({"decisions": decided}).to_string()),
        None => ("500 Oops", String::new()),
    };
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{text}", text.len());
    stream.write_all(answer.as_bytes()).await.unwrap();
    body
}

#[tokio::test(start_paused = true)]
async fn checks_are_posted_to_a_webhook_whose_answer_decides() {
    let (world, mut http) = world().await;
    let url = json!({"url": "http://127.0.0.1:7000/checks"});
    http.call("PUT", "/api/v1/producer-groups/p/webhook", Some(url)).await.of(200);
    let (one, two) = (send(&mut http, "one").await, send(&mut http, "two").await);
    // Nobody listens yet, then somebody fails: neither counts as a check.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let failed = answer_once(&world, "127.0.0.1:7000", None).await;
    assert_eq!(failed["producerGroup"], "p");
    let posted = answer_once(&world, "127.0.0.1:7000", Some("commit")).await;
    let checks = posted["checks"].as_array().unwrap();
    assert_eq!((checks.len(), &checks[0]["check"]), (2, &json!(1)));
    tokio::time::sleep(Duration::from_secs(1)).await;
    for sent in [one, two] {
        assert_eq!(http.get(&path(&sent, "")).await.of(200)["state"], "committed");
    }
    assert_eq!(end_of_topic(&world).await, 2);
}

#[tokio::test(start_paused = true)]
async fn wrong_half_messages_are_refused() {
    let (_world, mut http) = world().await;
    http.post("/api/v1/topics", json!({"name": "n"})).await.of(201);
    for (topic, body, status, code) in [
        ("n", json!({"producerGroup": "p"}), 409, "MESSAGE_TYPE_MISMATCH"),
        ("x", json!({"producerGroup": "p"}), 404, "TOPIC_NOT_FOUND"),
        ("t", json!({}), 422, "INVALID_BODY"),
        ("t", json!({"producerGroup": ""}), 422, "INVALID_BODY"),
        ("t", json!({"producerGroup": "p", "delayMs": 1}), 422, "INVALID_BODY"),
        ("t", json!({"producerGroup": "p", "checkImmunityMs": 3_600_001}), 422, "INVALID_BODY"),
        ("t", json!({"producerGroup": "p", "partition": 1}), 404, "PARTITION_NOT_FOUND"),
        (
            "t",
            json!({"producerGroup": "p", "payload": "x".repeat(41_000)}),
            413,
            "MESSAGE_TOO_LARGE",
        ),
    ] {
        let answer =
            http.post(&format!("/api/v1/topics/{topic}/half-messages"), body.clone()).await;
        assert_eq!(answer.error(status), code, "{topic} {body:.60}");
    }
    let gone = "0100000000000000070000000000000007";
    for (method, path, status, code) in [
        ("GET", "/api/v1/half-messages/x".to_owned(), 404, "HALF_MESSAGE_NOT_FOUND"),
        ("GET", format!("/api/v1/half-messages/{gone}"), 404, "HALF_MESSAGE_NOT_FOUND"),
        ("POST", format!("/api/v1/half-messages/{gone}/commit"), 404, "HALF_MESSAGE_NOT_FOUND"),
        ("POST", format!("/api/v1/half-messages/{gone}/check"), 404, "HALF_MESSAGE_NOT_FOUND"),
        ("GET", "/api/v1/half-messages?after=x".to_owned(), 400, "INVALID_PARAMETER"),
        (
            "GET",
            "/api/v1/producer-groups/p/checks?waitMs=30001".to_owned(),
            400,
            "INVALID_PARAMETER",
        ),
        ("GET", "/api/v1/producer-groups/p/checks?max=0".to_owned(), 400, "INVALID_PARAMETER"),
    ] {
        assert_eq!(http.call(method, &path, None).await.error(status), code, "{method} {path}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_nobody_decided_is_browsed_and_sent_to_where_it_was_meant_for() {
    let (world, mut http) = world().await;
    send(&mut http, "one").await;
    let letters = "/api/v1/groups/discarded.halves/dead-letters";
    let listed = http.get(letters).await.of(200);
    assert_eq!(listed["messages"], json!([]), "the topic is not there yet");
    let listed = loop {
        tokio::time::advance(Duration::from_secs(600)).await;
        let listed = http.get(letters).await.of(200);
        if listed["messages"] != json!([]) {
            break listed;
        }
    };
    let letter = &listed["messages"][0];
    assert_eq!(letter["origin"], json!({"topic": "t", "partition": 0, "offset": null}));
    assert!(letter["reason"].is_string(), "{letter}");
    assert_eq!(end_of_topic(&world).await, 0);

    for count in [1, 0] {
        let sent = http.post(&format!("{letters}/re-drive"), json!({"all": true})).await.of(200);
        assert_eq!(sent["count"], count, "each is sent once");
    }
    assert_eq!(http.get(letters).await.of(200)["messages"], json!([]));
    let page = http.get("/api/v1/topics/t/messages").await.of(200);
    let message = &page["messages"][0];
    assert_eq!((&message["messageId"], &message["key"]["text"]), (&json!("one"), &json!("k")));
    let names: Vec<_> = message["headers"].as_array().unwrap().iter().map(|h| &h["name"]).collect();
    for added in ["REAL_TOPIC", "REAL_QID", "braid.discard.reason", "TRANSACTION_CHECK_TIMES"] {
        assert!(!names.contains(&&json!(added)), "{names:?}");
    }
    let body = json!({"topic": "discarded.halves", "max": 1});
    let refused = http.post("/api/v1/groups/discarded.halves/receive", body).await;
    assert_eq!(refused.error(422), "GROUP_INVALID");
}
