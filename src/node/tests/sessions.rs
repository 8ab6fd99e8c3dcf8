//! Incremental fetch sessions through the wire.

use kafka_protocol::messages::fetch_request::{FetchTopic, ForgottenTopic};
use kafka_protocol::messages::{FetchRequest, FetchResponse};

use super::ask::{batch, fetch_all, fetch_partition, topic_name};
use super::client::Client;
use super::world::World;

async fn world_with_topic() -> (World, Client) {
    let world = World::start().await;
    let mut client = world.client().await;
    client.create("t", 3, &[]).await;
    (world, client)
}

fn in_session(request: FetchRequest, id: i32, epoch: i32) -> FetchRequest {
    request.with_session_id(id).with_session_epoch(epoch)
}

fn told(response: &FetchResponse) -> Vec<i32> {
    let parts = response.responses.iter().flat_map(|topic| &topic.partitions);
    parts.map(|part| part.partition_index).collect()
}

#[tokio::test(start_paused = true)]
async fn a_session_tells_only_what_changed() {
    let (_world, mut client) = world_with_topic().await;
    let all = [("t", 0, 0), ("t", 1, 0), ("t", 2, 0)];
    let opened = client.call(12, &in_session(fetch_all(&all), 0, 0)).await;
    let id = opened.session_id;
    assert!(id > 0);
    assert_eq!(told(&opened), [0, 1, 2], "the first answer is full");
    let quiet = client.call(12, &in_session(fetch_all(&[]), id, 1)).await;
    assert_eq!((quiet.session_id, told(&quiet)), (id, vec![]));
    client.produce("t", 1, batch(&["a"])).await;
    let news = client.call(12, &in_session(fetch_all(&[]), id, 2)).await;
    assert_eq!(told(&news), [1]);
    // The offset moves on by naming the partition again.
    let moved = client.call(12, &in_session(fetch_all(&[("t", 1, 1)]), id, 3)).await;
    assert_eq!(told(&moved), Vec::<i32>::new());
    client.produce("t", 1, batch(&["b"])).await;
    client.produce("t", 0, batch(&["c"])).await;
    let both = client.call(12, &in_session(fetch_all(&[]), id, 4)).await;
    let mut both = told(&both);
    both.sort_unstable();
    assert_eq!(both, [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_session_waits_for_all_its_partitions() {
    let (world, mut client) = world_with_topic().await;
    let mut producer = world.client().await;
    let all = [("t", 0, 0), ("t", 1, 0)];
    let id = client.call(12, &in_session(fetch_all(&all), 0, 0)).await.session_id;
    client.send(12, &in_session(fetch_all(&[]), id, 1).with_max_wait_ms(60_000)).await;
    tokio::task::yield_now().await;
    producer.produce("t", 1, batch(&["a"])).await;
    let answer = client.receive::<FetchRequest>(12).await;
    assert_eq!(told(&answer), [1]);
}

#[tokio::test(start_paused = true)]
async fn forgotten_partitions_are_not_told_and_the_last_one_ends_the_session() {
    let (_world, mut client) = world_with_topic().await;
    let all = [("t", 0, 0), ("t", 1, 0)];
    let id = client.call(12, &in_session(fetch_all(&all), 0, 0)).await.session_id;
    client.produce("t", 0, batch(&["a"])).await;
    client.produce("t", 1, batch(&["a"])).await;
    let forget = |partitions: Vec<i32>| {
        vec![ForgottenTopic::default().with_topic(topic_name("t")).with_partitions(partitions)]
    };
    let request = in_session(fetch_all(&[]), id, 1).with_forgotten_topics_data(forget(vec![0]));
    assert_eq!(told(&client.call(12, &request).await), [1]);
    let request = in_session(fetch_all(&[]), id, 2).with_forgotten_topics_data(forget(vec![1]));
    let ended = client.call(12, &request).await;
    assert_eq!((ended.error_code, ended.session_id, told(&ended)), (0, 0, vec![]));
    assert_eq!(client.call(12, &in_session(fetch_all(&[]), id, 3)).await.error_code, 70);
}

#[tokio::test(start_paused = true)]
async fn a_broken_session_is_told_how() {
    let (_world, mut client) = world_with_topic().await;
    let one = [("t", 0, 0)];
    let id = client.call(12, &in_session(fetch_all(&one), 0, 0)).await.session_id;
    for (session, epoch, code) in [(id, 2, 71), (id, 7, 71), (id + 1, 1, 70), (0, 1, 70)] {
        let answer = client.call(12, &in_session(fetch_all(&[]), session, epoch)).await;
        assert_eq!((answer.error_code, told(&answer)), (code, vec![]), "{session} {epoch}");
    }
    // Ids and names do not mix within a session.
    let answer = client.call(13, &in_session(fetch_all(&[]), id, 1)).await;
    assert_eq!(answer.error_code, 106);
    let answer = client.call(12, &in_session(fetch_all(&[]), id, 1)).await;
    assert_eq!(answer.error_code, 0, "it goes on where it was");
}

#[tokio::test(start_paused = true)]
async fn the_last_epoch_closes_and_epoch_zero_opens_anew() {
    let (_world, mut client) = world_with_topic().await;
    let one = [("t", 0, 0)];
    let first = client.call(12, &in_session(fetch_all(&one), 0, 0)).await.session_id;
    let second = client.call(12, &in_session(fetch_all(&one), first, 0)).await.session_id;
    assert_ne!(first, second);
    assert_eq!(client.call(12, &in_session(fetch_all(&[]), first, 1)).await.error_code, 70);
    let last = client.call(12, &in_session(fetch_all(&one), second, -1)).await;
    assert_eq!((last.error_code, last.session_id, told(&last)), (0, 0, vec![0]));
    assert_eq!(client.call(12, &in_session(fetch_all(&[]), second, 1)).await.error_code, 70);
}

#[tokio::test(start_paused = true)]
async fn without_room_a_fetch_goes_without_a_session() {
    let world = World::start_with(&[("max.incremental.fetch.session.cache.slots", "1")]).await;
    let mut client = world.client().await;
    client.create("t", 1, &[]).await;
    let one = [("t", 0, 0)];
    let first = client.call(12, &in_session(fetch_all(&one), 0, 0)).await;
    assert!(first.session_id > 0);
    let second = client.call(12, &in_session(fetch_all(&one), 0, 0)).await;
    assert_eq!((second.session_id, told(&second)), (0, vec![0]));
    // A session unused for long gives way.
    tokio::time::advance(std::time::Duration::from_secs(121)).await;
    let third = client.call(12, &in_session(fetch_all(&one), 0, 0)).await;
    assert!(third.session_id > 0);
    let gone = client.call(12, &in_session(fetch_all(&[]), first.session_id, 1)).await;
    assert_eq!(gone.error_code, 70);
}

#[tokio::test(start_paused = true)]
async fn a_session_by_topic_id_learns_that_its_topic_was_made_anew() {
    let (_world, mut client) = world_with_topic().await;
    let old = client.create("again", 1, &[]).await;
    let topic = |id| {
        let part = fetch_partition(0, 0);
        fetch_all(&[])
            .with_topics(vec![FetchTopic::default().with_topic_id(id).with_partitions(vec![part])])
    };
    let id = client.call(13, &in_session(topic(old), 0, 0)).await.session_id;
    let delete = kafka_protocol::messages::DeleteTopicsRequest::default()
        .with_topic_names(vec![topic_name("again")]);
    assert_eq!(client.call(5, &delete).await.responses[0].error_code, 0);
    let new = client.create("again", 1, &[]).await;
    assert_ne!(old, new);
    client.produce("again", 0, batch(&["new"])).await;
    let answer = client.call(13, &in_session(fetch_all(&[]), id, 1)).await;
    assert_eq!(answer.responses[0].partitions[0].error_code, 100, "its id is gone");
    let answer = client.call(13, &in_session(topic(new), 0, 0)).await;
    assert_eq!(answer.responses[0].partitions[0].high_watermark, 1);
}
