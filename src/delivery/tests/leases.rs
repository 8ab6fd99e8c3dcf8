//! Receiving and what consumers say about what they got.

use std::time::Duration;

use super::world::{GROUP, ORDERS, Record, World, request, values};
use crate::delivery::{
    GroupSettings, LeaseError, ReceiveError, ReceiveRequest, StartFrom, TagFilter,
};

pub(super) async fn seconds(count: u64) {
    tokio::time::sleep(Duration::from_secs(count)).await;
}

async fn start() -> World {
    World::start(GroupSettings::default()).await
}

#[tokio::test(start_paused = true)]
async fn what_is_acknowledged_is_done_and_the_rest_comes_back_at_its_time() {
    let world = start().await;
    world.produce(10, &["a", "b"]).await;
    world.produce(11, &["c"]).await;
    let first = world.receive().await;
    let mut got = values(&first);
    let second = world.receive().await;
    got.extend(values(&second));
    got.sort_unstable();
    assert_eq!(got, ["a", "b", "c"]);
    assert!(world.receive().await.is_empty(), "all is leased");
    let all: Vec<_> = first.into_iter().chain(second).collect();
    let (acked, rest): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|d| d.message.value.as_deref() != Some(b"b"));
    world.ack(&acked).await;
    world.ack(&acked).await;
    seconds(29).await;
    assert!(world.receive().await.is_empty(), "it is not visible yet");
    seconds(2).await;
    let again = world.receive().await;
    assert_eq!(values(&again), ["b"]);
    assert_eq!((again[0].attempt, rest[0].attempt), (2, 1));
    let late = world.deliveries.ack(GROUP, &[&rest[0].handle]).await;
    assert_eq!(late, [Err(LeaseError::Superseded { attempt: 1, current: 2 })]);
    world.ack(&again).await;
    seconds(60).await;
    assert!(world.receive().await.is_empty());
    let progress = world.deliveries.progress(GROUP).await.unwrap().unwrap();
    assert!(progress.iter().all(|p| p.lag == 0 && p.start_offset == p.high_watermark));
}

#[tokio::test(start_paused = true)]
async fn a_late_acknowledgement_counts_while_nobody_else_has_the_message() {
    let world = start().await;
    world.produce(10, &["a"]).await;
    let delivered = world.receive().await;
    seconds(31).await;
    world.ack(&delivered).await;
    assert!(world.receive().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_handle_is_of_its_group_and_of_its_time() {
    let world = start().await;
    world.produce(10, &["a"]).await;
    let delivered = world.receive().await;
    let handle = &*delivered[0].handle;
    let answers = world.deliveries.ack("other", &[handle, "nonsense"]).await;
    assert_eq!(answers[0], Err(LeaseError::OtherGroup));
    assert!(matches!(answers[1], Err(LeaseError::Receipt(_))));
    let short = world.deliveries.change_invisible(GROUP, handle, 10).await;
    assert_eq!(short, Err(LeaseError::Invisible { got_ms: 10 }));
    // The same message, delivered for the first time again after a reset.
    world.deliveries.reset(GROUP, ORDERS, vec![(0, 0)]).await.unwrap();
    let again = world.receive().await;
    assert_eq!(again[0].attempt, 1);
    assert_eq!(world.deliveries.ack(GROUP, &[handle]).await, [Err(LeaseError::Unknown)]);
    world.ack(&again).await;
}

#[tokio::test(start_paused = true)]
async fn more_time_can_be_asked_for_and_less() {
    let world = start().await;
    world.produce(10, &["a"]).await;
    let delivered = world.receive().await;
    let longer = world.deliveries.change_invisible(GROUP, &delivered[0].handle, 60_000).await;
    seconds(59).await;
    assert!(world.receive().await.is_empty());
    let shorter = world.deliveries.change_invisible(GROUP, &longer.unwrap(), 1_000).await;
    seconds(2).await;
    assert_eq!(world.receive().await[0].attempt, 2);
    assert!(world.deliveries.change_invisible(GROUP, &shorter.unwrap(), 1_000).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_negative_acknowledgement_rests_by_the_table_or_as_said() {
    let world = start().await;
    world.produce(10, &["a"]).await;
    let delivered = world.receive().await;
    world.deliveries.nack(GROUP, &delivered[0].handle, None).await.unwrap();
    let spent = world.deliveries.ack(GROUP, &[&delivered[0].handle]).await;
    assert_eq!(spent, [Err(LeaseError::Released)]);
    seconds(9).await;
    assert!(world.receive().await.is_empty());
    seconds(2).await;
    let again = world.receive().await;
    world.deliveries.nack(GROUP, &again[0].handle, Some(0)).await.unwrap();
    assert_eq!(world.receive().await[0].attempt, 3);
}

#[tokio::test(start_paused = true)]
async fn leases_and_attempts_survive_kill_9() {
    let mut world = start().await;
    world.produce(10, &["a", "b"]).await;
    let delivered = world.receive().await;
    assert_eq!(values(&delivered), ["a", "b"]);
    world.ack(&delivered[..1]).await;
    for attempt in 2..6 {
        world = world.restart().await;
        assert!(world.receive().await.is_empty(), "it is leased");
        seconds(31).await;
        let again = world.receive().await;
        assert_eq!((values(&again), again[0].attempt), (vec!["b".to_owned()], attempt));
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_woken_by_a_record_or_by_the_end_of_a_lease_or_gets_nothing_in_time() {
    let world = start().await;
    let waiting = |seconds| ReceiveRequest { wait: Duration::from_secs(seconds), ..request() };
    let begin = tokio::time::Instant::now();
    let nothing = world.try_receive(waiting(5)).await.unwrap();
    assert!(nothing.is_empty());
    assert_eq!(begin.elapsed().as_secs(), 5);
    let receive = world.try_receive(waiting(100));
    let produce = async {
        seconds(20).await;
        world.produce(11, &["a"]).await;
    };
    let (delivered, ()) = tokio::join!(receive, produce);
    assert_eq!(values(&delivered.unwrap()), ["a"]);
    assert_eq!(begin.elapsed().as_secs(), 25);
    let again = world.try_receive(waiting(100)).await.unwrap();
    assert_eq!((again[0].attempt, begin.elapsed().as_secs()), (2, 55));
}

#[tokio::test(start_paused = true)]
async fn the_same_attempt_id_gets_the_same_batch_until_it_is_visible_again() {
    let world = start().await;
    world.produce(10, &["a", "b", "c"]).await;
    let named = || ReceiveRequest { attempt_id: Some("id-1".into()), max: 2, ..request() };
    let first = world.try_receive(named()).await.unwrap();
    assert_eq!(values(&first), ["a", "b"]);
    assert_eq!(world.try_receive(named()).await.unwrap(), first);
    let world = world.restart().await;
    assert_eq!(world.try_receive(named()).await.unwrap(), first);
    world.ack(&first[..1]).await;
    assert_eq!(world.try_receive(named()).await.unwrap(), &first[1..]);
    let other = ReceiveRequest { attempt_id: Some("id-2".into()), ..named() };
    assert_eq!(values(&world.try_receive(other).await.unwrap()), ["c"]);
    seconds(31).await;
    let later = world.try_receive(named()).await.unwrap();
    assert_eq!(later.iter().map(|d| d.attempt).collect::<Vec<_>>(), [2, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_tag_filter_passes_over_what_nobody_wants() {
    let world = start().await;
    let tagged = |tag, value| Record { key: None, tag, value };
    let records = [
        tagged(Some("paid"), "a"),
        tagged(Some("open"), "b"),
        tagged(None, "c"),
        tagged(Some("paid"), "d"),
        tagged(Some("open"), "e"),
    ];
    world.produce_all(10, &records).await;
    let filter = TagFilter::parse("paid || lost").unwrap();
    let wanted = ReceiveRequest { filter, ..request() };
    let delivered = world.try_receive(wanted).await.unwrap();
    assert_eq!(values(&delivered), ["a", "d"]);
    world.ack(&delivered).await;
    let progress = world.deliveries.progress(GROUP).await.unwrap().unwrap();
    assert_eq!(progress.iter().map(|p| p.lag).sum::<i64>(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_group_begins_where_it_is_set_to_and_goes_on_where_it_is_put() {
    let latest = GroupSettings { start: StartFrom::Latest, ..GroupSettings::default() };
    let world = World::start(latest).await;
    world.produce(10, &["a", "b"]).await;
    assert!(world.receive().await.is_empty());
    seconds(10).await;
    world.produce(10, &["c"]).await;
    assert_eq!(values(&world.receive().await), ["c"]);
    let reset = async |offset| {
        world.deliveries.reset(GROUP, ORDERS, vec![(0, offset)]).await.unwrap();
        values(&world.receive().await)
    };
    assert_eq!(reset(i64::MIN).await, ["a", "b", "c"]);
    assert_eq!(reset(1).await, ["b", "c"]);
    assert!(reset(i64::MAX).await.is_empty());
    let no_partition = world.deliveries.reset(GROUP, ORDERS, vec![(7, 1)]);
    assert!(no_partition.await.is_err());
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_wrongly_is_refused() {
    let world = start().await;
    let refused = async |request| world.try_receive(request).await.unwrap_err();
    let got = refused(ReceiveRequest { max: 33, ..request() }).await;
    assert_eq!(got, ReceiveError::Count { got: 33, max: 32 });
    let got = refused(ReceiveRequest { invisible_ms: 999, ..request() }).await;
    assert_eq!(got, ReceiveError::Invisible { got_ms: 999 });
    let got = refused(ReceiveRequest { group: "".into(), ..request() }).await;
    assert_eq!(got, ReceiveError::GroupName);
    let topic = crate::model::TopicId(uuid::Uuid::from_u128(404));
    let got = refused(ReceiveRequest { topic, ..request() }).await;
    assert_eq!(got, ReceiveError::UnknownTopic);
}
