//! Messages delivered one by one, by HTTP: receive, acknowledge, fail, bury, send again.

use std::time::Duration;

use braid_protocol::records::{BatchSpec, Producer};
use kafka_protocol::messages::{
    EndTxnRequest, FindCoordinatorRequest, InitProducerIdRequest, ProducerId, TransactionalId,
};
use serde_json::{Value, json};

use super::super::ask::{batch, batch_of, fetch, produce, produced, text};
use super::super::client::Client;
use super::super::world::World;
use super::http::{Answer, Http};

async fn world() -> (World, Http) {
    let world = World::start().await;
    let mut http = Http::connect(&world).await;
    http.post("/api/v1/topics", json!({"name": "t"})).await.of(201);
    (world, http)
}

async fn send(http: &mut Http, texts: &[&str]) {
    let messages: Vec<_> = texts.iter().map(|text| json!({"payload": text, "tags": "a"})).collect();
    http.post("/api/v1/topics/t/messages", json!({"messages": messages})).await.of(200);
}

async fn receive(http: &mut Http, more: Value) -> Vec<Value> {
    let mut body = json!({"topic": "t", "max": 10});
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    let answer = http.post("/api/v1/groups/g/receive", body).await.of(200);
    answer["messages"].as_array().unwrap().clone()
}

async fn say(http: &mut Http, what: &str, body: Value) -> Answer {
    http.post(&format!("/api/v1/groups/g/{what}"), body).await
}

/// A Kafka producer's transaction of one record, which is ended only if it is said how.
async fn transact(client: &mut Client, value: &str, commits: Option<bool>) {
    let id = TransactionalId(text("tx"));
    let find =
        FindCoordinatorRequest::default().with_key_type(1).with_coordinator_keys(vec![text("tx")]);
    assert_eq!(client.call(6, &find).await.coordinators[0].error_code, 0);
    let init = InitProducerIdRequest::default()
        .with_transactional_id(Some(id.clone()))
        .with_transaction_timeout_ms(60_000);
    let producer = client.call(5, &init).await;
    assert_eq!(producer.error_code, 0);
    let (number, epoch) = (producer.producer_id.0, producer.producer_epoch);
    let spec = BatchSpec {
        producer: Some(Producer { id: number, epoch, base_sequence: 0 }),
        transactional: true,
        ..BatchSpec::default()
    };
    let written = produce("t", 0, batch_of(spec, &[value]));
    let written = client.call(12, &written.with_transactional_id(Some(id.clone()))).await;
    assert_eq!(produced(&written).error_code, 0);
    let Some(committed) = commits else { return };
    let end = EndTxnRequest::default()
        .with_transactional_id(id)
        .with_producer_id(ProducerId(number))
        .with_producer_epoch(epoch)
        .with_committed(committed);
    assert_eq!(client.call(4, &end).await.error_code, 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_kafka_transaction_wrote_is_delivered_when_it_is_committed_and_never_when_not() {
    let (world, mut http) = world().await;
    let mut client = world.client().await;
    transact(&mut client, "void", Some(false)).await;
    transact(&mut client, "committed", Some(true)).await;
    transact(&mut client, "open", None).await;
    send(&mut http, &["behind"]).await;
    assert_eq!(texts(&receive(&mut http, json!({})).await), ["committed"]);
    let page = http.get("/api/v1/topics/t/partitions/0/messages").await.of(200);
    assert_eq!(texts(page["messages"].as_array().unwrap()), ["committed"]);
    // The next transaction of the id voids the open one.
    transact(&mut client, "last", Some(true)).await;
    let received = receive(&mut http, json!({"waitMs": 1000})).await;
    assert_eq!(texts(&received), ["behind", "last"]);
    let shown = http.get("/api/v1/groups/g").await.of(200);
    assert_eq!(shown["lag"], 3, "only what is to be delivered: {shown}");
}

fn texts(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| message["payload"]["text"].as_str().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_acknowledged_is_done_and_the_rest_comes_again() {
    let (world, mut http) = world().await;
    send(&mut http, &["one", "two", "three"]).await;
    let first = receive(&mut http, json!({"invisibleMs": 5000})).await;
    assert_eq!(texts(&first), ["one", "two", "three"]);
    assert_eq!((&first[0]["attempt"], &first[0]["offset"]), (&json!(1), &json!(0)));
    assert!(receive(&mut http, json!({})).await.is_empty(), "the others are invisible");

    let handles = json!([first[0]["handle"], first[1]["handle"], "nonsense"]);
    let acked = say(&mut http, "ack", json!({"handles": handles})).await.of(200);
    let ok: Vec<_> = acked["results"].as_array().unwrap().iter().map(|r| r["ok"].clone()).collect();
    assert_eq!(ok, [json!(true), json!(true), json!(false)]);
    assert_eq!(acked["results"][2]["error"]["code"], "HANDLE_INVALID");

    // A long poll gets the third when its time is over; how far the group is can be seen.
    let again = receive(&mut http, json!({"waitMs": 20_000})).await;
    assert_eq!((texts(&again), &again[0]["attempt"]), (vec!["three"], &json!(2)));
    let shown = http.get("/api/v1/groups/g").await.of(200);
    let progress = &shown["partitions"][0];
    assert_eq!((&progress["committedOffset"], &progress["inFlight"]), (&json!(2), &json!(1)));
    assert_eq!((&shown["kind"], &shown["state"]), (&json!("delivery"), &json!("Stable")));
    let stale = say(&mut http, "ack", json!({"handles": [first[2]["handle"]]})).await.of(200);
    assert_eq!(stale["results"][0]["error"]["code"], "HANDLE_INVALID");
    let done = json!({"handles": [again[0]["handle"]]});
    assert_eq!(say(&mut http, "ack", done).await.of(200)["results"][0]["ok"], true);

    // A message that is written wakes who waits, also one of Kafka's producers.
    let mut other = Http::connect(&world).await;
    let mut client = world.client().await;
    let wait = receive(&mut other, json!({"waitMs": 30_000}));
    let write = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        client.produce("t", 0, batch(&["four"])).await;
    };
    let (woken, ()) = tokio::join!(wait, write);
    assert_eq!(texts(&woken), ["four"]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_fails_rests_and_in_the_end_is_a_dead_letter_that_can_be_sent_again() {
    let (world, mut http) = world().await;
    let settings = json!({"configs": {"delivery.retry.max": "1",
        "delivery.backoff.policy": "exponential", "delivery.backoff.initial.ms": "2000"}});
    http.call("PATCH", "/api/v1/groups/g", Some(settings)).await.of(200);
    send(&mut http, &["poison"]).await;
    let first = receive(&mut http, json!({})).await;
    let nack = say(&mut http, "nack", json!({"handle": first[0]["handle"]})).await;
    assert_eq!(nack.status, 204, "{}", nack.text());
    assert!(receive(&mut http, json!({})).await.is_empty(), "it rests");
    let second = receive(&mut http, json!({"waitMs": 5000})).await;
    assert_eq!(second[0]["attempt"], 2);
    let last = json!({"handle": second[0]["handle"], "delayMs": 0});
    say(&mut http, "nack", last).await.of(204);

    let letters = loop {
        let listed = http.get("/api/v1/groups/g/dead-letters").await.of(200);
        let letters = listed["messages"].as_array().unwrap().clone();
        if !letters.is_empty() {
            break letters;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0]["origin"], json!({"topic": "t", "partition": 0, "offset": 0}));
    assert_eq!((&letters[0]["attempts"], texts(&letters)), (&json!(2), vec!["poison"]));
    assert!(letters[0]["reason"].as_str().is_some_and(|why| why.contains("2 attempts")));
    // Kafka's consumers read it as any record.
    let fetched = world.client().await.call(12, &fetch("dlq.g", 0, 0)).await;
    assert_eq!(fetched.responses[0].partitions[0].high_watermark, 1);

    let path = "/api/v1/groups/g/dead-letters";
    for (what, body) in [
        ("re-drive", json!({})),
        ("re-drive", json!({"all": true, "offsets": [0]})),
        ("delete", json!({"offsets": []})),
    ] {
        let refused = http.post(&format!("{path}/{what}"), body.clone()).await;
        assert_eq!(refused.error(422), "INVALID_BODY", "{what} {body}");
    }
    let nowhere = json!({"all": true, "topic": "nowhere"});
    let refused = http.post(&format!("{path}/re-drive"), nowhere).await;
    assert_eq!(refused.error(404), "TOPIC_NOT_FOUND");
    let driven = http.post(&format!("{path}/re-drive"), json!({"offsets": [0, 7]})).await.of(200);
    assert_eq!((&driven["count"], driven["others"][0]["offset"].clone()), (&json!(1), json!(7)));
    let again = http.post(&format!("{path}/re-drive"), json!({"all": true})).await.of(200);
    assert_eq!(again["count"], 0);
    let third = receive(&mut http, json!({"waitMs": 1000})).await;
    assert_eq!((texts(&third), &third[0]["attempt"]), (vec!["poison"], &json!(1)));

    let why = json!({"handle": third[0]["handle"], "reason": "no such customer"});
    say(&mut http, "dead-letter", why).await.of(204);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let listed = http.get(path).await.of(200);
    assert_eq!(listed["messages"][0]["reason"], "no such customer");
    assert_eq!(
        http.post(&format!("{path}/delete"), json!({"all": true})).await.of(200)["count"],
        1
    );
    assert_eq!(http.get(path).await.of(200), json!({"messages": []}));
}

#[tokio::test(start_paused = true)]
async fn a_receive_is_said_again_kept_longer_and_filtered() {
    let (_world, mut http) = world().await;
    send(&mut http, &["one", "two"]).await;
    let once = json!({"attemptId": "x", "max": 1, "invisibleMs": 5000});
    let first = receive(&mut http, once.clone()).await;
    assert_eq!(receive(&mut http, once).await, first, "the same attempt, the same batch");
    let longer = json!({"handle": first[0]["handle"], "invisibleMs": 60_000});
    let kept = say(&mut http, "change-invisible", longer).await.of(200);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let others = receive(&mut http, json!({"tags": "a || b"})).await;
    assert_eq!(texts(&others), ["two"], "the first is still invisible");
    let done = json!({"handles": [kept["handle"], others[0]["handle"]]});
    let acked = say(&mut http, "ack", done).await.of(200);
    assert!(acked["results"].as_array().unwrap().iter().all(|r| r["ok"] == true), "{acked}");
    send(&mut http, &["three"]).await;
    assert!(receive(&mut http, json!({"tags": "b"})).await.is_empty());
    assert!(receive(&mut http, json!({})).await.is_empty(), "what does not match is done");
}

#[tokio::test(start_paused = true)]
async fn wrong_receives_and_handles_are_refused() {
    let (_world, mut http) = world().await;
    for (body, status, code) in [
        (json!({"topic": "nowhere"}), 404, "TOPIC_NOT_FOUND"),
        (json!({"topic": "t", "max": 0}), 422, "INVALID_BODY"),
        (json!({"topic": "t", "max": 33}), 422, "INVALID_BODY"),
        (json!({"topic": "t", "invisibleMs": 999}), 422, "INVALID_BODY"),
        (json!({"topic": "t", "waitMs": 30_001}), 422, "INVALID_BODY"),
        (json!({"topic": "t", "waitMs": -1}), 422, "INVALID_BODY"),
        (json!({"topic": "t", "tags": "a ||"}), 422, "INVALID_BODY"),
        (json!({"topic": "t", "attemptId": ""}), 422, "INVALID_BODY"),
        (json!({}), 422, "INVALID_BODY"),
    ] {
        assert_eq!(say(&mut http, "receive", body.clone()).await.error(status), code, "{body}");
    }
    for (what, body, status, code) in [
        ("ack", json!({"handles": []}), 422, "INVALID_BODY"),
        ("nack", json!({"handle": "x"}), 409, "HANDLE_INVALID"),
        ("change-invisible", json!({"handle": "x", "invisibleMs": 1000}), 409, "HANDLE_INVALID"),
        ("dead-letter", json!({"handle": "x"}), 409, "HANDLE_INVALID"),
        (
            "dead-letters/re-drive",
            json!({"all": true, "topic": "__consumer_offsets"}),
            403,
            "TOPIC_INTERNAL",
        ),
    ] {
        assert_eq!(say(&mut http, what, body.clone()).await.error(status), code, "{what} {body}");
    }
    let bad = http.get("/api/v1/groups/g/dead-letters?after=x").await;
    assert_eq!(bad.error(400), "INVALID_PARAMETER");
    assert_eq!(http.get("/api/v1/groups/g/dead-letters").await.of(200), json!({"messages": []}));
}
