//! Groups by HTTP, beside Kafka's own clients.

use braid_protocol::ErrorCode;
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::{DeleteGroupsRequest, OffsetDeleteRequest};
use serde_json::{Value, json};

use super::super::ask::{NOW_MS, topic_name};
use super::super::groups::{commit, committed, find, group, join_as};
use super::super::transactions::{NONE, Tx};
use super::super::world::World;
use super::http::Http;

async fn world() -> (World, Http) {
    let world = World::start().await;
    let mut http = Http::connect(&world).await;
    http.post("/api/v1/topics", json!({"name": "t", "partitions": 2})).await.of(201);
    let messages: Vec<_> = (0..10)
        .map(|n| json!({"payload": "x", "partition": 0, "timestampMs": NOW_MS - 10_000 + n * 1000}))
        .collect();
    http.post("/api/v1/topics/t/messages", json!({"messages": messages})).await.of(200);
    (world, http)
}

fn of_partition(answer: &Value, partition: i64) -> Value {
    let all = answer["partitions"].as_array().unwrap();
    all.iter().find(|p| p["partition"] == partition).unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn a_group_of_kafkas_is_listed_shown_reset_and_deleted() {
    let (world, mut http) = world().await;
    let mut client = world.client().await;
    find(&mut client).await;
    assert_eq!(client.call(8, &commit("g", None, 4)).await.topics[0].partitions[0].error_code, 0);
    let listed = http.get("/api/v1/groups").await.of(200);
    assert_eq!(
        listed,
        json!({"groups": [{"group": "g", "kind": "kafka", "state": "Empty", "members": 0}]})
    );
    let shown = http.get("/api/v1/groups/g").await.of(200);
    let progress = of_partition(&shown, 0);
    assert_eq!((&progress["committedOffset"], &progress["lag"]), (&json!(4), &json!(6)));
    assert_eq!(progress["lagMs"], 6000);
    assert_eq!(shown["lag"], 6);

    for (to, partition, expected) in [
        (json!({"to": "earliest"}), 0, 0),
        (json!({"to": "latest"}), 0, 10),
        (json!({"offset": 7, "partition": 0}), 0, 7),
        (json!({"offset": 99}), 0, 10),
        (json!({"timestampMs": NOW_MS - 8_000}), 0, 2),
        (json!({"timestampMs": NOW_MS + 1}), 0, 10),
    ] {
        let mut request = to.clone();
        request["topic"] = json!("t");
        let moved = http.post("/api/v1/groups/g/reset", request).await.of(200);
        assert_eq!(of_partition(&moved, partition)["committedOffset"], expected, "{to}");
        assert_eq!(committed(&mut client, "g").await, expected, "{to}");
    }

    // One with members is let alone.
    let joined = client.call(3, &join_as(3, "g", "")).await;
    assert_eq!(joined.error_code, 0);
    let request = json!({"topic": "t", "to": "earliest"});
    let refused = http.post("/api/v1/groups/g/reset", request).await;
    assert_eq!(refused.error(409), "GROUP_IN_USE");
    assert_eq!(http.call("DELETE", "/api/v1/groups/g", None).await.error(409), "GROUP_IN_USE");
}

#[tokio::test(start_paused = true)]
async fn how_far_a_delivery_group_is_is_seen_by_kafkas_tools_too() {
    let (world, mut http) = world().await;
    let request = json!({"topic": "t", "offset": 4, "partition": 0});
    let moved = http.post("/api/v1/groups/d/reset", request).await.of(200);
    assert_eq!(of_partition(&moved, 0)["committedOffset"], 4);
    let shown = http.get("/api/v1/groups/d").await.of(200);
    assert_eq!((&shown["kind"], &shown["lag"]), (&json!("delivery"), &json!(6)));
    assert_eq!(of_partition(&shown, 0)["lagMs"], 6000);

    // Within a second or two it is committed, as if a consumer had.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let mut client = world.client().await;
    assert_eq!(committed(&mut client, "d").await, 4);
    let listed = http.get("/api/v1/groups").await.of(200);
    assert_eq!(listed["groups"].as_array().unwrap().len(), 1, "{listed}");
    assert_eq!(listed["groups"][0]["kind"], "delivery");
    let metrics = http.get("/metrics").await;
    let lag = "rocketmq_consumer_lag_messages{consumer_group=\"d\",topic=\"t\"} 6";
    assert!(metrics.text().lines().any(|line| line == lag), "{}", metrics.text());
    let latest = json!({"topic": "t", "to": "latest"});
    http.post("/api/v1/groups/d/reset", latest.clone()).await.of(200);
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(committed(&mut client, "d").await, 10);

    // Kafka's own group of the name stays Kafka's, and the other way round.
    find(&mut client).await;
    assert_eq!(client.call(3, &join_as(3, "k", "")).await.error_code, 0);
    let refused = http.post("/api/v1/groups/k/reset", latest.clone()).await;
    assert_eq!(refused.error(409), "GROUP_IN_USE");
    for version in [3, 9] {
        let joined = client.call(version, &join_as(version, "d", "")).await;
        assert_eq!(joined.error_code, ErrorCode::INCONSISTENT_GROUP_PROTOCOL.0);
    }
    // Who deletes it by Kafka's tools means it.
    let delete = DeleteGroupsRequest::default().with_groups_names(vec![group("d")]);
    assert_eq!(client.call(2, &delete).await.results[0].error_code, 0);
    assert_eq!(http.get("/api/v1/groups/d").await.error(404), "GROUP_NOT_FOUND");
    assert_eq!(client.call(3, &join_as(3, "d", "")).await.error_code, 0);
    http.post("/api/v1/groups/c/reset", latest).await.of(200);

    // A deleted topic is forgotten, and so is the group.
    http.call("DELETE", "/api/v1/topics/t", None).await.of(204);
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let shown = http.get("/api/v1/groups/c").await;
    assert!(shown.status == 404 || shown.json()["partitions"] == json!([]), "{}", shown.text());
    http.post("/api/v1/topics", json!({"name": "t"})).await.of(201);
    http.post("/api/v1/groups/e/reset", json!({"topic": "t", "to": "latest"})).await.of(200);
    assert_eq!(http.call("DELETE", "/api/v1/groups/e", None).await.status, 204);
    assert_eq!(http.get("/api/v1/groups/e").await.error(404), "GROUP_NOT_FOUND");
    let again = http.call("DELETE", "/api/v1/groups/e", None).await;
    assert_eq!(again.error(404), "GROUP_NOT_FOUND");
    let bad = json!({"topic": "t", "to": "latest"});
    let refused = http.post("/api/v1/groups/a%20b/reset", bad).await;
    assert_eq!(refused.error(422), "GROUP_INVALID");
}

/// What Kafka's tools see of such a group is for them to look at: it is moved by nothing of theirs.
#[tokio::test(start_paused = true)]
async fn no_commit_deletion_or_transaction_of_kafkas_moves_a_delivery_group() {
    let (world, mut http) = world().await;
    let to = json!({"topic": "t", "offset": 4, "partition": 0});
    http.post("/api/v1/groups/g/reset", to).await.of(200);
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let mut client = world.client().await;
    let mut tx = Tx::begin(&mut client, "tx").await;
    let delete = OffsetDeleteRequestTopic::default()
        .with_name(topic_name("t"))
        .with_partitions(vec![OffsetDeleteRequestPartition::default()]);
    let delete = OffsetDeleteRequest::default().with_group_id(group("g")).with_topics(vec![delete]);

    // Versions that do not know the code get one that is as final to them.
    for (version, code) in [(8, ErrorCode::ILLEGAL_GENERATION), (9, ErrorCode::GROUP_ID_NOT_FOUND)]
    {
        let refused = client.call(version, &commit("g", None, 7)).await;
        assert_eq!(refused.topics[0].partitions[0].error_code, code.0, "{version}");
    }
    let refused = client.call(0, &delete).await;
    assert_eq!(refused.error_code, ErrorCode::GROUP_ID_NOT_FOUND.0);
    for version in [3, 5] {
        tx.write(&mut client, "with it").await;
        let refused = tx.commit_offset(&mut client, version, 8).await;
        assert_eq!(refused, ErrorCode::ILLEGAL_GENERATION.0, "{version}");
        tx.end(&mut client, true).await;
    }
    assert_eq!(committed(&mut client, "g").await, 4, "nothing was moved");
    let shown = http.get("/api/v1/groups/g").await.of(200);
    assert_eq!(of_partition(&shown, 0)["committedOffset"], 4, "nor here");

    // The same requests do as they say for a group that nothing is delivered to any more.
    http.call("DELETE", "/api/v1/groups/g", None).await.of(204);
    assert_eq!(client.call(8, &commit("g", None, 7)).await.topics[0].partitions[0].error_code, 0);
    assert_eq!(committed(&mut client, "g").await, 7);
    assert_eq!(client.call(0, &delete).await.error_code, NONE);
    assert_eq!(committed(&mut client, "g").await, -1);
    assert_eq!(tx.commit_offset(&mut client, 5, 8).await, NONE);
    tx.end(&mut client, true).await;
    assert_eq!(committed(&mut client, "g").await, 8);
}

#[tokio::test(start_paused = true)]
async fn a_group_of_producers_names_a_webhook() {
    let world = World::start().await;
    let mut http = Http::connect(&world).await;
    let path = "/api/v1/producer-groups/p/webhook";
    assert_eq!(http.get(path).await.error(404), "WEBHOOK_NOT_FOUND");
    for url in ["https://a/", "ftp://a", "", "http://a b/"] {
        let refused = http.call("PUT", path, Some(json!({"url": url}))).await;
        assert_eq!(refused.error(422), "INVALID_BODY", "{url}");
    }
    let url = json!({"url": "http://127.0.0.1:9/checks"});
    assert_eq!(http.call("PUT", path, Some(url.clone())).await.of(200), url);
    assert_eq!(http.get(path).await.of(200), url);
    // It outlives a restart.
    let world = world.restart().await;
    let mut http = Http::connect(&world).await;
    assert_eq!(http.get(path).await.of(200), url);
    assert_eq!(http.call("DELETE", path, None).await.status, 204);
    assert_eq!(http.get(path).await.error(404), "WEBHOOK_NOT_FOUND");
}

#[tokio::test(start_paused = true)]
async fn a_group_keeps_its_settings_from_before_it_reads_anything() {
    let (_world, mut http) = world().await;
    let change = json!({"configs": {"delivery.retry.max": "3", "delivery.order": "message-group"}});
    let set = http.call("PATCH", "/api/v1/groups/g", Some(change)).await.of(200);
    let config = |group: &Value, name: &str| {
        let configs = group["configs"].as_array().unwrap();
        configs.iter().find(|config| config["name"] == name).cloned()
    };
    let expected = json!({"name": "delivery.retry.max", "value": "3", "own": true});
    assert_eq!(config(&set, "delivery.retry.max"), Some(expected));
    assert_eq!(set["kind"], "delivery");
    assert_eq!(config(&set, "share.heartbeat.interval.ms"), None);
    let all = http.get("/api/v1/groups/g?allConfigs=true").await.of(200);
    assert!(config(&all, "share.heartbeat.interval.ms").is_some());
    let back = json!({"configs": {"delivery.retry.max": null}});
    let set = http.call("PATCH", "/api/v1/groups/g", Some(back)).await.of(200);
    assert_eq!(config(&set, "delivery.retry.max").unwrap()["value"], "16");
    for (configs, code) in [
        (json!({"delivery.retry.max": "-1"}), "CONFIG_INVALID"),
        (json!({"nothing": "1"}), "CONFIG_INVALID"),
    ] {
        let change = json!({"configs": configs});
        let refused = http.call("PATCH", "/api/v1/groups/g", Some(change)).await;
        assert_eq!(refused.error(422), code, "{configs}");
    }
    for (body, status, code) in [
        (json!({"topic": "t"}), 422, "INVALID_BODY"),
        (json!({"topic": "t", "to": "latest", "offset": 1}), 422, "INVALID_BODY"),
        (json!({"topic": "u", "to": "latest"}), 404, "TOPIC_NOT_FOUND"),
        (json!({"topic": "t", "to": "latest", "partition": 2}), 404, "PARTITION_NOT_FOUND"),
    ] {
        let refused = http.post("/api/v1/groups/g/reset", body.clone()).await;
        assert_eq!(refused.error(status), code, "{body}");
    }
    let long = "g".repeat(256);
    assert_eq!(http.get(&format!("/api/v1/groups/{long}")).await.error(422), "GROUP_INVALID");
}
