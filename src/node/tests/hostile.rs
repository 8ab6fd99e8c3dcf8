//! Bytes that mean harm, thrown at a living broker: it serves everybody else, and forgets them.

use std::time::Duration;

use tokio::runtime::Runtime;
use uuid::Uuid;

use super::ask::batch;
use super::bent::Chance;
use super::client::Client;
use super::groups::find;
use super::limits::paused;
use super::world::World;

/// Frames that a connection sends before it closes its side and takes what answers there are.
const FLIGHT: usize = 8;

/// One flight of bent frames over one connection; how many answers came.
async fn attack(mut client: Client, chance: &Chance, id: Uuid) -> usize {
    let mut bytes = Vec::new();
    for _ in 0..FLIGHT {
        bytes.extend(chance.frame(id));
    }
    client.send_bytes(&bytes).await;
    client.finish_sending().await;
    let mut answers = 0;
    while client.receive_frame().await.is_some() {
        answers += 1;
    }
    answers
}

/// A world under attack.
struct Siege {
    runtime: Runtime,
    world: World,
    bystander: Client,
    topic: Uuid,
    chance: Chance,
    served: i64,
}

impl Siege {
    fn begin() -> Self {
        let runtime = paused();
        let settings = [
            ("log.retention.bytes", "100000"),
            // Bent requests make topics of a hundred thousand partitions, too.
            ("log.retention.check.interval.ms", "300000"),
            ("group.max.size", "10"),
        ];
        let (world, bystander, topic) = runtime.block_on(async {
            let world = World::start_with(&settings).await;
            let mut client = world.client().await;
            find(&mut client).await;
            let topic = client.create("t", 2, &[]).await;
            client.create("quiet", 1, &[]).await;
            (world, client, topic)
        });
        let chance = Chance::from_seed(7);
        Self { runtime, world, bystander, topic, chance, served: 0 }
    }

    /// Throws frames while somebody else is served, until so many were looked at; how many of
    /// them were answered.
    fn throw(&mut self, frames: usize) -> usize {
        let Self { runtime, world, bystander, topic, chance, served } = self;
        runtime.block_on(async {
            let (mut answers, mut refused) = (0, 0);
            while answers + refused < frames {
                let answered = attack(world.client().await, chance, *topic).await;
                answers += answered;
                // The first frame that is refused ends its connection.
                refused += usize::from(answered < FLIGHT);
                if refused % 50 == 0 {
                    // Long waits of the others may have made it look idle.
                    *bystander = world.client().await;
                    let offset = bystander.produce("quiet", 0, batch(&["mine"])).await;
                    assert_eq!(offset, *served);
                    *served += 1;
                    let part = bystander.fetch("quiet", 0, offset).await;
                    assert_eq!((part.error_code, part.high_watermark), (0, *served));
                }
            }
            answers
        })
    }

    /// Lets everything pass that passes with time.
    fn rest(&mut self) {
        self.runtime.block_on(async { tokio::time::sleep(Duration::from_secs(3600)).await });
    }
}

#[test]
fn a_hundred_thousand_bent_requests_harm_nobody_and_leave_nothing() {
    let mut siege = Siege::begin();
    let mut answers = siege.throw(50_000);
    siege.rest();
    let grown = allocation_counter::measure(|| {
        answers += siege.throw(50_000);
        siege.rest();
    });
    assert!(siege.world.sim.fatal().is_empty(), "{:?}", siege.world.sim.fatal());
    // Both sides of the border were visited: a refused frame ends its connection.
    assert!((20_000..80_000).contains(&answers), "{answers} answers");
    // The disk is in memory, too, and remembers every operation.
    assert!(grown.bytes_current < 4 << 20, "{grown:?}");
    assert!(grown.bytes_max < 32 << 20, "{grown:?}");
    let connections = siege.world.node.connections();
    assert!(connections <= 1, "{connections} connections");
    let memory = siege.world.config.network.request_memory_bytes;
    assert_eq!(siege.world.node.free_request_memory_bytes(), memory);
}

#[tokio::test(start_paused = true)]
async fn lengths_that_cannot_be_end_the_connection() {
    let world = World::start_with(&[("braid.first.request.max.ms", "600000")]).await;
    for length in [i32::MIN, -1, (1 << 20) + 1, i32::MAX] {
        let mut client = world.client().await;
        client.send_bytes(&length.to_be_bytes()).await;
        client.assert_closed().await;
    }
    // The largest length that may be is waited for.
    let mut client = world.client().await;
    client.send_bytes(&(1_i32 << 20).to_be_bytes()).await;
    let silence = tokio::time::timeout(Duration::from_secs(60), client.receive_frame()).await;
    assert!(silence.is_err());
}
