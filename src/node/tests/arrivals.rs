//! How fast clients may come: those that come faster wait, on the clock of the simulator, and none
//! is refused.

use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::*;
use tokio::time::{Duration, Instant, sleep};

use super::ask::text;
use super::client::Client;
use super::world::World;

/// Some come at the same moment, each with a request; when the last of them was answered.
async fn come(world: &World, listener: usize, count: usize) -> Duration {
    let (start, mut clients) = (Instant::now(), Vec::new());
    let address = world.node.addresses()[listener].to_string();
    for _ in 0..count {
        let mut client = Client::connect(&world.env, &address).await;
        client.send(2, &ApiVersionsRequest::default()).await;
        clients.push(client);
    }
    for client in &mut clients {
        assert_eq!(client.receive::<ApiVersionsRequest>(2).await.error_code, 0);
    }
    start.elapsed()
}

fn is_about(took: Duration, expected_ms: u128) -> bool {
    (expected_ms..expected_ms + 50).contains(&took.as_millis())
}

async fn set_rate(client: &mut Client, rate: &str) -> i16 {
    let config = AlterableConfig::default()
        .with_name(text("max.connection.creation.rate"))
        .with_value(Some(text(rate)));
    let resource = AlterConfigsResource::default().with_resource_type(4);
    let resource = resource.with_resource_name(text("")).with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    client.call(1, &request).await.responses[0].error_code
}

#[tokio::test(start_paused = true)]
async fn who_comes_too_fast_waits_and_is_served() {
    let world = World::start_with(&[("max.connection.creation.rate", "5")]).await;
    let mut client = world.client().await;
    assert!(is_about(come(&world, 0, 49).await, 0), "ten seconds' worth at once");
    let took = come(&world, 0, 10).await;
    assert!(is_about(took, 2_000), "{took:?}");
    // Who is there already is served meanwhile.
    let (took, asked) = tokio::join!(come(&world, 0, 5), async {
        sleep(Duration::from_millis(500)).await;
        let start = Instant::now();
        client.call(2, &ApiVersionsRequest::default()).await;
        start.elapsed()
    });
    assert!(is_about(took, 1_000) && is_about(asked, 0), "{took:?}, {asked:?}");

    // Changed while it runs.
    assert_eq!(set_rate(&mut client, "-1").await, 42);
    assert_eq!(set_rate(&mut client, "50").await, 0);
    sleep(Duration::from_secs(10)).await;
    assert!(is_about(come(&world, 0, 500).await, 0));
    let took = come(&world, 0, 50).await;
    assert!(is_about(took, 1_000), "{took:?}");
    assert_eq!(set_rate(&mut client, "2147483647").await, 0);
    assert!(is_about(come(&world, 0, 300).await, 0));
}

#[tokio::test(start_paused = true)]
async fn a_listener_has_a_rate_of_its_own() {
    let settings = [
        ("listeners", "IN://127.0.0.1:0,OUT://127.0.0.1:0"),
        ("listener.security.protocol.map", "IN:PLAINTEXT,OUT:PLAINTEXT"),
        ("listener.name.out.max.connection.creation.rate", "2"),
    ];
    let world = World::start_with(&settings).await;
    assert!(is_about(come(&world, 1, 20).await, 0));
    let (slow, fast) = tokio::join!(come(&world, 1, 4), come(&world, 0, 200));
    assert!(is_about(slow, 2_000) && is_about(fast, 0), "{slow:?}, {fast:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_those_that_wait_to_come_in() {
    let world = World::start_with(&[("max.connection.creation.rate", "1")]).await;
    assert!(is_about(come(&world, 0, 10).await, 0));
    let mut waiting = Vec::new();
    for _ in 0..30 {
        waiting.push(world.client().await);
    }
    sleep(Duration::from_millis(1_500)).await;
    let start = Instant::now();
    world.node.stop().await;
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    for client in &mut waiting {
        client.assert_closed().await;
    }
}
