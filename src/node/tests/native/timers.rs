//! Messages that appear when they are due, by HTTP.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::ask::{NOW_MS, fetch};
use super::super::world::World;
use super::http::Http;

async fn world() -> (World, Http) {
    let world = World::start().await;
    let mut http = Http::connect(&world).await;
    http.post("/api/v1/topics", json!({"name": "d", "messageType": "DELAY"})).await.of(201);
    (world, http)
}

async fn send(http: &mut Http, message: Value) -> Value {
    let sent = http.post("/api/v1/topics/d/messages", message).await.of(200);
    sent["messages"][0].clone()
}

fn path(sent: &Value, what: &str) -> String {
    format!("/api/v1/timers/{}{what}", sent["timer"].as_str().unwrap())
}

async fn end_of_topic(world: &World) -> i64 {
    let fetched = world.client().await.call(12, &fetch("d", 0, 0)).await;
    fetched.responses[0].partitions[0].high_watermark
}

#[tokio::test(start_paused = true)]
async fn a_delayed_message_appears_when_it_is_due() {
    let (world, mut http) = world().await;
    let sent = send(&mut http, json!({"payload": "x", "key": "k", "delayMs": 5000})).await;
    assert!(sent["timer"].is_string() && sent["offset"].is_null(), "{sent}");
    let shown = http.get(&path(&sent, "")).await.of(200);
    assert_eq!((&shown["state"], &shown["payload"]["text"]), (&json!("waits"), &json!("x")));
    let due_ms = shown["dueMs"].as_i64().unwrap();
    assert!((NOW_MS + 5000..NOW_MS + 10_000).contains(&due_ms), "{due_ms}");
    let listed = http.get("/api/v1/timers?topic=d").await.of(200);
    assert_eq!(listed["timers"][0]["timer"], sent["timer"]);
    let later = http.get(&format!("/api/v1/timers?fromMs={}", due_ms + 1)).await.of(200);
    assert_eq!(later["timers"], json!([]));
    assert_eq!(end_of_topic(&world).await, 0);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(end_of_topic(&world).await, 1);
    let message = http.get("/api/v1/topics/d/messages").await.of(200)["messages"][0].clone();
    assert!(message["timestampMs"].as_i64().unwrap() >= due_ms, "never early");
    assert_eq!((&message["key"]["text"], &message["payload"]["text"]), (&json!("k"), &json!("x")));
    assert_eq!(http.get(&path(&sent, "")).await.of(200)["state"], "delivered");
    let late = http.call("POST", &path(&sent, "/recall"), None).await;
    assert_eq!(late.error(409), "TIMER_ENDED");
}

#[tokio::test(start_paused = true)]
async fn a_timer_is_recalled_or_delivered_now() {
    let (world, mut http) = world().await;
    let at = NOW_MS + 86_400_000;
    let one = send(&mut http, json!({"payload": "one", "deliverAtMs": at})).await;
    let two = send(&mut http, json!({"payload": "two", "deliverAtMs": at})).await;
    let recalled = http.post(&path(&one, "/recall"), json!({})).await.of(200);
    assert_eq!(recalled["now"], true);
    assert_eq!(http.post(&path(&one, "/recall"), json!({})).await.of(200)["now"], false);
    let late = http.post(&path(&one, "/deliver"), json!({})).await;
    assert_eq!(late.error(409), "TIMER_ENDED");
    http.post(&path(&two, "/deliver"), json!({})).await.of(200);
    assert_eq!(end_of_topic(&world).await, 1);
    let listed = http.get("/api/v1/timers").await.of(200);
    assert_eq!(listed["timers"], json!([]));
    for (method, path, status, code) in [
        ("GET", "/api/v1/timers/x", 404, "TIMER_NOT_FOUND"),
        ("POST", "/api/v1/timers/x/recall", 404, "TIMER_NOT_FOUND"),
        ("GET", "/api/v1/timers?after=x", 400, "INVALID_PARAMETER"),
        ("GET", "/api/v1/timers?fromMs=-1", 400, "INVALID_PARAMETER"),
        ("GET", "/api/v1/timers?topic=nowhere", 404, "TOPIC_NOT_FOUND"),
    ] {
        assert_eq!(http.call(method, path, None).await.error(status), code, "{path}");
    }
    let far = json!({"payload": "x", "delayMs": 400_000_000_000_i64});
    let refused = http.post("/api/v1/topics/d/messages", far).await;
    assert_eq!(refused.error(422), "MESSAGE_INVALID");
    let large = json!({"payload": "x".repeat(50_000), "delayMs": 1});
    let refused = http.post("/api/v1/topics/d/messages", large).await;
    assert_eq!(refused.error(413), "MESSAGE_TOO_LARGE");
}

#[tokio::test(start_paused = true)]
async fn a_delayed_message_that_comes_again_is_scheduled_once() {
    let (world, mut http) = world().await;
    let message = json!({"payload": "x", "delayMs": 60_000, "messageId": "a"});
    let first = send(&mut http, message.clone()).await;
    let again = send(&mut http, message.clone()).await;
    assert_eq!((&again["timer"], &again["duplicate"]), (&first["timer"], &json!(true)));
    let world = world.kill_and_restart().await;
    let mut http = Http::connect(&world).await;
    let again = send(&mut http, message).await;
    assert_eq!((&again["timer"], &again["duplicate"]), (&first["timer"], &json!(true)));
    // Placed where those go that are due already, and delivered meanwhile.
    let late = json!({"payload": "y", "deliverAtMs": 1, "messageId": "b"});
    let first = send(&mut http, late.clone()).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let world = world.kill_and_restart().await;
    let mut http = Http::connect(&world).await;
    let again = send(&mut http, late).await;
    assert_eq!((&again["timer"], &again["duplicate"]), (&first["timer"], &json!(true)));
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(end_of_topic(&world).await, 2);
}
