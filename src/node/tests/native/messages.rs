//! Messages by HTTP, beside Kafka's producers and consumers of the same topics.

use braid_protocol::records::{BatchSpec, Batches, RecordReader};
use serde_json::{Value, json};

use super::super::ask::{NOW_MS, batch_with, fetch};
use super::super::world::World;
use super::http::Http;

async fn world(types: &[(&str, &str, i32)]) -> (World, Http) {
    let world = World::start().await;
    let mut http = Http::connect(&world).await;
    for (name, message_type, partitions) in types {
        let topic = json!({"name": name, "messageType": message_type, "partitions": partitions});
        http.post("/api/v1/topics", topic).await.of(201);
    }
    (world, http)
}

fn offsets(answer: &Value) -> Vec<(i64, i64)> {
    let messages = answer["messages"].as_array().unwrap();
    let place = |m: &Value| (m["partition"].as_i64().unwrap(), m["offset"].as_i64().unwrap());
    messages.iter().map(place).collect()
}

fn texts(page: &Value) -> Vec<&str> {
    let messages = page["messages"].as_array().unwrap();
    messages.iter().map(|m| m["payload"]["text"].as_str().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_message_with_everything_is_a_kafka_record_with_rocketmqs_headers() {
    let (world, mut http) = world(&[("t", "NORMAL", 1)]).await;
    let message = json!({
        "payload": {"json": {"amount": 1}},
        "key": {"text": "k"},
        "headers": [{"name": "h", "value": "1"}, {"name": "h", "value": {"base64": "/w=="}},
            {"name": "none", "value": null}],
        "messageId": "id-1",
        "tags": "paid",
        "keys": ["a", "b"],
        "timestampMs": NOW_MS - 5,
    });
    let sent = http.post("/api/v1/topics/t/messages", message).await.of(200);
    assert_eq!(
        sent["messages"][0],
        json!({"topic": "t", "partition": 0, "offset": 0, "messageId": "id-1", "duplicate": false})
    );

    let fetched = world.client().await.call(12, &fetch("t", 0, 0)).await;
    let records = fetched.responses[0].partitions[0].records.clone().unwrap();
    let (_, batch) = Batches::new(records).next().unwrap().unwrap();
    let reader = RecordReader::open(&batch, 1 << 20).unwrap();
    let record = reader.records().next().unwrap().unwrap();
    assert_eq!((record.key, record.timestamp), (Some(&b"k"[..]), NOW_MS - 5));
    assert_eq!(record.value, Some(&b"{\"amount\":1}"[..]));
    let headers: Vec<_> = record.headers.iter().collect();
    let expected: [(&[u8], Option<&[u8]>); 6] = [
        (b"UNIQ_KEY", Some(b"id-1")),
        (b"TAGS", Some(b"paid")),
        (b"KEYS", Some(b"a b")),
        (b"h", Some(b"1")),
        (b"h", Some(b"\xff")),
        (b"none", None),
    ];
    assert_eq!(headers, expected);

    let page = http.get("/api/v1/topics/t/partitions/0/messages").await.of(200);
    let shown = &page["messages"][0];
    assert_eq!(shown["payload"], json!({"text": "{\"amount\":1}"}));
    assert_eq!(shown["key"], json!({"text": "k"}));
    assert_eq!(shown["keys"], json!(["a", "b"]));
    assert_eq!((&shown["messageId"], &shown["tags"]), (&json!("id-1"), &json!("paid")));
    assert_eq!(shown["headers"][4], json!({"name": "h", "value": {"base64": "/w=="}}));
    assert_eq!(shown["headers"][5], json!({"name": "none", "value": null}));
}

#[tokio::test(start_paused = true)]
async fn messages_of_one_request_are_written_together_and_in_order() {
    let (world, mut http) = world(&[("t", "NORMAL", 3)]).await;
    let messages: Vec<_> =
        (0..30).map(|n| json!({"payload": n.to_string(), "partition": n % 3})).collect();
    let sent = http.post("/api/v1/topics/t/messages", json!({"messages": messages})).await.of(200);
    let expected: Vec<_> = (0..30).map(|n| (n % 3, n / 3)).collect();
    assert_eq!(offsets(&sent), expected);
    let page = http.get("/api/v1/topics/t/partitions/1/messages").await.of(200);
    assert_eq!(texts(&page), ["1", "4", "7", "10", "13", "16", "19", "22", "25", "28"]);

    // One that cannot be written leaves nothing of the others.
    let wrong = json!({"messages": [{"payload": "x"}, {"payload": "y", "partition": 3}]});
    let refused = http.post("/api/v1/topics/t/messages", wrong).await;
    assert_eq!(refused.error(404), "PARTITION_NOT_FOUND");
    assert!(refused.text().contains("messages[1]"), "{}", refused.text());
    let large = json!({"messages": [{"payload": "x"}, {"payload": "y".repeat(50_000)}]});
    assert_eq!(http.post("/api/v1/topics/t/messages", large).await.error(413), "MESSAGE_TOO_LARGE");
    for partition in 0..3 {
        let path = format!("/api/v1/topics/t/partitions/{partition}/messages?offset=10");
        assert_eq!(http.get(&path).await.of(200), json!({"messages": []}));
    }

    // More than one batch holds is more batches, still all or none.
    let many: Vec<_> =
        (0..20).map(|_| json!({"payload": "z".repeat(9_000), "partition": 0})).collect();
    let sent = http.post("/api/v1/topics/t/messages", json!({"messages": many})).await.of(200);
    let expected: Vec<_> = (10..30).map(|n| (0, n)).collect();
    assert_eq!(offsets(&sent), expected);
    drop(world);
}

#[tokio::test(start_paused = true)]
async fn keys_go_where_kafkas_producers_send_them_and_the_rest_takes_turns() {
    let (_world, mut http) = world(&[("t", "NORMAL", 4), ("f", "FIFO", 4)]).await;
    // As Kafka's murmur2 says: (hash & 0x7fffffff) % 4.
    for (key, hash) in [("21", -973_932_308_i32), ("foobar", -790_332_482), ("abc", 479_470_107)] {
        let sent =
            http.post("/api/v1/topics/t/messages", json!({"key": key, "payload": "x"})).await;
        let expected = i64::from(hash & 0x7fff_ffff) % 4;
        assert_eq!(offsets(&sent.of(200))[0].0, expected, "{key}");
    }
    let mut partitions = Vec::new();
    for _ in 0..4 {
        let sent = http.post("/api/v1/topics/t/messages", json!({"payload": "x"})).await.of(200);
        partitions.push(offsets(&sent)[0].0);
    }
    partitions.sort_unstable();
    assert_eq!(partitions, [0, 1, 2, 3]);
    let mut of_group = Vec::new();
    for key in ["a", "b", "c"] {
        let message = json!({"payload": "x", "key": key, "messageGroup": "foobar"});
        let sent = http.post("/api/v1/topics/f/messages", message).await.of(200);
        of_group.push(offsets(&sent)[0].0);
    }
    assert_eq!(of_group, [i64::from(-790_332_482_i32 & 0x7fff_ffff) % 4; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_comes_again_is_answered_with_the_firsts_place() {
    let (world, mut http) = world(&[("t", "NORMAL", 2), ("u", "NORMAL", 1)]).await;
    let path = "/api/v1/topics/t/messages";
    let message = |id: &str| json!({"payload": "x", "partition": 1, "messageId": id});
    http.post(path, json!({"payload": "before", "partition": 1})).await.of(200);
    let first = http.post(path, message("a")).await.of(200)["messages"][0].clone();
    assert_eq!((&first["offset"], &first["duplicate"]), (&json!(1), &json!(false)));
    let again = http.post(path, message("a")).await.of(200)["messages"][0].clone();
    assert_eq!((&again["offset"], &again["duplicate"]), (&json!(1), &json!(true)));
    // Even for another partition; another topic's ids are others.
    let elsewhere = json!({"payload": "x", "partition": 0, "messageId": "a"});
    let again = http.post(path, elsewhere).await.of(200)["messages"][0].clone();
    assert_eq!((&again["partition"], &again["offset"]), (&json!(1), &json!(1)));
    let other = http.post("/api/v1/topics/u/messages", json!({"messageId": "a"})).await.of(200);
    assert_eq!(other["messages"][0]["duplicate"], false);
    // Of several, those that are new are written.
    let mixed = json!({"messages": [message("b"), message("a"), message("c")]});
    let sent = http.post(path, mixed).await.of(200);
    assert_eq!(offsets(&sent), [(1, 2), (1, 1), (1, 3)]);
    let twice = json!({"messages": [message("d"), message("d")]});
    assert_eq!(http.post(path, twice).await.error(422), "MESSAGE_INVALID");

    // A restart, in order or not, forgets none.
    let world = world.restart().await;
    let mut http = Http::connect(&world).await;
    http.post(path, message("e")).await.of(200);
    let world = world.kill_and_restart().await;
    let mut http = Http::connect(&world).await;
    for (id, offset) in [("a", 1), ("b", 2), ("c", 3), ("e", 4)] {
        let again = http.post(path, message(id)).await.of(200)["messages"][0].clone();
        assert_eq!((&again["offset"], &again["duplicate"]), (&json!(offset), &json!(true)), "{id}");
    }

    // Time does.
    world.sim.clock.jump_wall_ms(600_001);
    let late = http.post(path, message("a")).await.of(200)["messages"][0].clone();
    assert_eq!((&late["offset"], &late["duplicate"]), (&json!(5), &json!(false)));
}

#[tokio::test(start_paused = true)]
async fn a_topic_takes_messages_of_its_type_only() {
    let types = [("n", "NORMAL", 1), ("f", "FIFO", 1), ("d", "DELAY", 1), ("x", "TRANSACTION", 1)];
    let (_world, mut http) = world(&types).await;
    for (topic, message) in [
        ("n", json!({"payload": "x", "messageGroup": "g"})),
        ("n", json!({"payload": "x", "delayMs": 1})),
        ("f", json!({"payload": "x"})),
        ("f", json!({"payload": "x", "messageGroup": "g", "deliverAtMs": 1})),
        ("d", json!({"payload": "x"})),
        ("d", json!({"payload": "x", "messageGroup": "g", "delayMs": 1})),
        ("x", json!({"payload": "x"})),
    ] {
        let answer = http.post(&format!("/api/v1/topics/{topic}/messages"), message.clone()).await;
        assert_eq!(answer.error(409), "MESSAGE_TYPE_MISMATCH", "{topic} {message}");
    }
    for (message, status, code) in [
        (json!({"payload": "x", "partition": -1}), 404, "PARTITION_NOT_FOUND"),
        (json!({"payload": "x", "deliverAtMs": 1, "delayMs": 1}), 422, "MESSAGE_INVALID"),
        (json!({"payload": "x", "tags": "a|b"}), 422, "MESSAGE_INVALID"),
        (json!({"payload": "x", "timestampMs": NOW_MS + 3_600_001}), 422, "MESSAGE_INVALID"),
        (json!({"payload": 1}), 422, "INVALID_BODY"),
        (json!({"payload": {"base64": "?"}}), 422, "INVALID_BODY"),
        (json!({"payloads": "x"}), 422, "INVALID_BODY"),
        (json!({"messages": [{"key": 1}]}), 422, "INVALID_BODY"),
        (json!({"messages": []}), 422, "MESSAGE_INVALID"),
        (json!({"messages": {}}), 422, "INVALID_BODY"),
    ] {
        let answer = http.post("/api/v1/topics/n/messages", message.clone()).await;
        assert_eq!(answer.error(status), code, "{message}");
    }
    let empty = json!({"payload": "x"});
    let nowhere = http.post("/api/v1/topics/nowhere/messages", empty).await;
    assert_eq!(nowhere.error(404), "TOPIC_NOT_FOUND");
}

#[tokio::test(start_paused = true)]
async fn a_partition_is_read_in_pages_that_cut_batches() {
    let (world, mut http) = world(&[("t", "NORMAL", 1)]).await;
    let mut client = world.client().await;
    for first in [0, 5, 10] {
        let values: Vec<String> = (first..first + 5).map(|n: i32| n.to_string()).collect();
        let records: Vec<_> = values.iter().map(|v| (NOW_MS, None, v.as_str())).collect();
        client.produce("t", 0, batch_with(BatchSpec::default(), &records)).await;
    }
    let (mut path, mut found) =
        ("/api/v1/topics/t/partitions/0/messages?limit=4".to_owned(), Vec::new());
    loop {
        let page = http.get(&path).await.of(200);
        found.extend(texts(&page).into_iter().map(str::to_owned));
        let Some(next) = page["next"].as_i64() else { break };
        path = format!("/api/v1/topics/t/partitions/0/messages?limit=4&offset={next}");
    }
    let expected: Vec<String> = (0..15).map(|n| n.to_string()).collect();
    assert_eq!(found, expected);
    for (path, status, code) in [
        ("/api/v1/topics/t/partitions/1/messages", 404, "PARTITION_NOT_FOUND"),
        ("/api/v1/topics/t/partitions/x/messages", 400, "INVALID_PARAMETER"),
        ("/api/v1/topics/t/partitions/0/messages?offset=16", 400, "OFFSET_OUT_OF_RANGE"),
        ("/api/v1/topics/t/partitions/0/messages?offset=-1", 400, "OFFSET_OUT_OF_RANGE"),
        ("/api/v1/topics/t/messages?after=1", 400, "INVALID_PARAMETER"),
        ("/api/v1/topics/t/messages?after=7:0", 404, "PARTITION_NOT_FOUND"),
    ] {
        assert_eq!(http.get(path).await.error(status), code, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn messages_are_found_by_key_and_by_time() {
    let (world, mut http) = world(&[("t", "NORMAL", 2)]).await;
    for n in 0..20_i64 {
        let message = json!({"payload": n.to_string(), "partition": n % 2,
            "key": format!("k{}", n % 5), "keys": [format!("word{n}")], "messageId": format!("id{n}"),
            "timestampMs": NOW_MS - 20_000 + n * 1000});
        http.post("/api/v1/topics/t/messages", message).await.of(200);
    }
    for (query, expected) in [
        ("key=k3".to_owned(), vec!["8", "18", "3", "13"]),
        ("key=word7".to_owned(), vec!["7"]),
        ("key=id4".to_owned(), vec!["4"]),
        ("key=none".to_owned(), vec![]),
        (format!("fromMs={}", NOW_MS - 3_000), vec!["18", "17", "19"]),
        (format!("fromMs={}&toMs={}", NOW_MS - 15_000, NOW_MS - 12_000), vec!["6", "5", "7"]),
        (format!("key=k0&toMs={}", NOW_MS - 10_000), vec!["0", "5"]),
        (format!("fromMs={}", NOW_MS + 1), vec![]),
    ] {
        let page = http.get(&format!("/api/v1/topics/t/messages?{query}")).await.of(200);
        assert_eq!(texts(&page), expected, "{query}");
        let mut found = Vec::new();
        let mut path = format!("/api/v1/topics/t/messages?{query}&limit=1");
        for _ in 0..40 {
            let page = http.get(&path).await.of(200);
            found.extend(texts(&page).into_iter().map(str::to_owned));
            let Some(next) = page["next"].as_str() else { break };
            path = format!("/api/v1/topics/t/messages?{query}&limit=1&after={next}");
        }
        assert_eq!(found, expected, "{query}, one by one");
    }
    drop(world);
}
