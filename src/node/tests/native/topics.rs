//! Topics by HTTP, and as Kafka's clients see them.

use kafka_protocol::messages::DescribeConfigsRequest;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use serde_json::json;

use super::super::ask::text;
use super::super::world::World;
use super::http::Http;

#[tokio::test(start_paused = true)]
async fn a_topic_is_made_shown_changed_and_deleted() {
    let world = World::start().await;
    let mut http = Http::connect(&world).await;
    let request = json!({"name": "orders", "partitions": 3, "messageType": "FIFO",
        "configs": {"retention.ms": "1000"}});
    let made = http.post("/api/v1/topics", request.clone()).await.of(201);
    assert_eq!((&made["name"], &made["messageType"]), (&json!("orders"), &json!("FIFO")));
    assert_eq!(made["partitionMarks"].as_array().unwrap().len(), 3);
    assert_eq!(http.post("/api/v1/topics", request).await.error(409), "TOPIC_EXISTS");

    let shown = http.get("/api/v1/topics/orders").await.of(200);
    let own: Vec<_> =
        shown["configs"].as_array().unwrap().iter().filter(|c| c["own"] == true).collect();
    assert_eq!(own.len(), 2, "{shown}");
    let all = http.get("/api/v1/topics/orders?allConfigs=true").await.of(200);
    assert!(all["configs"].as_array().unwrap().len() > 30);

    let change = json!({"configs": {"retention.ms": null, "message.type": "NORMAL"}});
    let changed = http.call("PATCH", "/api/v1/topics/orders/configs", Some(change)).await.of(200);
    assert_eq!(changed["messageType"], "NORMAL");
    let mut client = world.client().await;
    let resource =
        DescribeConfigsResource::default().with_resource_type(2).with_resource_name(text("orders"));
    let asked = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let told = client.call(4, &asked).await;
    let value = |name: &str| {
        let config = told.results[0].configs.iter().find(|c| c.name.as_str() == name).unwrap();
        config.value.as_deref().unwrap().to_owned()
    };
    assert_eq!(
        (value("message.type"), value("retention.ms")),
        ("NORMAL".into(), "604800000".into())
    );

    assert_eq!(http.call("DELETE", "/api/v1/topics/orders", None).await.status, 204);
    let gone = http.call("DELETE", "/api/v1/topics/orders", None).await;
    assert_eq!(gone.error(404), "TOPIC_NOT_FOUND");
}

#[tokio::test(start_paused = true)]
async fn the_cluster_is_told() {
    let world = World::start_with(&[("broker.rack", "r1")]).await;
    let mut http = Http::connect(&world).await;
    http.post("/api/v1/topics", json!({"name": "t", "partitions": 3})).await.of(201);
    let told = http.get("/api/v1/cluster").await.of(200);
    assert_eq!((&told["broker"], &told["state"]), (&json!(1), &json!("running")));
    assert_eq!((&told["topics"], &told["partitions"]), (&json!(1), &json!(3)));
    assert_eq!(told["brokers"][0]["rack"], "r1");
    assert_eq!(told["brokers"][0]["listeners"][0]["port"], world.node.addresses()[0].port());
}

#[tokio::test(start_paused = true)]
async fn topics_that_cannot_be_are_refused() {
    let world = World::start().await;
    let mut http = Http::connect(&world).await;
    for (request, status, code) in [
        (json!({"name": "a b"}), 422, "TOPIC_INVALID"),
        (json!({"name": ""}), 422, "TOPIC_INVALID"),
        (json!({"name": "a", "partitions": 0}), 422, "TOPIC_INVALID"),
        (json!({"name": "a", "partitions": 100_001}), 422, "TOPIC_INVALID"),
        (json!({"name": "__consumer_offsets"}), 403, "TOPIC_INTERNAL"),
        (json!({"name": "a", "configs": {"message.type": "x"}}), 422, "CONFIG_INVALID"),
        (json!({"name": "a", "configs": {"nothing": "x"}}), 422, "CONFIG_INVALID"),
        (
            json!({"name": "a", "messageType": "DELAY", "configs": {"message.type": "FIFO"}}),
            422,
            "INVALID_BODY",
        ),
    ] {
        let answer = http.post("/api/v1/topics", request.clone()).await;
        assert_eq!(answer.error(status), code, "{request}");
    }
    assert_eq!(http.get("/api/v1/topics").await.of(200)["topics"], json!([]));
}

#[tokio::test(start_paused = true)]
async fn a_long_list_comes_in_pages() {
    let world = World::start().await;
    let mut http = Http::connect(&world).await;
    for number in 0..5 {
        http.post("/api/v1/topics", json!({"name": format!("t{number}")})).await.of(201);
    }
    let mut names = Vec::new();
    let mut path = "/api/v1/topics?limit=2".to_owned();
    loop {
        let page = http.get(&path).await.of(200);
        let of_page = page["topics"].as_array().unwrap().clone();
        assert!((1..=2).contains(&of_page.len()));
        names.extend(of_page.iter().map(|topic| topic["name"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/api/v1/topics?limit=2&after={next}");
    }
    assert_eq!(names, ["t0", "t1", "t2", "t3", "t4"]);
}

#[tokio::test(start_paused = true)]
async fn settings_of_the_broker_are_told_changed_and_taken_back_while_it_runs() {
    let world = World::start().await;
    let mut http = Http::connect(&world).await;
    let path = "/api/v1/broker/configs";
    let change = |value| json!({"configs": {"log.retention.ms": value}});
    let changed = http.call("PATCH", path, Some(change(json!("7777")))).await.of(200);
    let find = |told: &serde_json::Value| {
        let configs = told["configs"].as_array().unwrap();
        configs.iter().find(|config| config["name"] == "log.retention.ms").cloned()
    };
    let set = find(&changed).unwrap();
    assert_eq!(
        (&set["value"], &set["source"]),
        (&json!("7777"), &json!("this broker, while it runs"))
    );
    http.post("/api/v1/topics", json!({"name": "t"})).await.of(201);
    let shown = http.get("/api/v1/topics/t?allConfigs=true").await.of(200);
    let retention =
        shown["configs"].as_array().unwrap().iter().find(|c| c["name"] == "retention.ms");
    assert_eq!(retention.unwrap()["value"], "7777", "it is in force");
    for (key, value) in [("log.retention.ms", "x"), ("num.partitions", "3")] {
        let body = json!({"configs": {key: value}});
        assert_eq!(http.call("PATCH", path, Some(body)).await.error(422), "CONFIG_INVALID");
    }
    let taken = http.call("PATCH", path, Some(change(json!(null)))).await.of(200);
    assert!(find(&taken).is_none_or(|config| config["value"] != "7777"), "{taken}");
    let all = http.get("/api/v1/broker/configs?all=true").await.of(200);
    assert!(all["configs"].as_array().unwrap().len() > 50);
}
