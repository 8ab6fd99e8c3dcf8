//! Power cuts and kills at every operation of the disk under scheduling, recalling and delivering.
//!
//! What the next start must show: whatever is acknowledged is delivered exactly once, not before it
//! is due; what was recalled is not delivered; what was never answered is all there or not at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::world::{Topics, World};
use crate::env::Rng;
use crate::env::rng::SeededRng;
use crate::env::sim;
use crate::model::QueueId;
use crate::timer::TimerId;

/// What a sender knows of a message.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    due_ms: i64,
    scheduled: bool,
    recall_asked: bool,
    recalled: bool,
}

#[derive(Debug)]
struct Dead;

type Book = BTreeMap<String, Known>;

async fn schedule(
    world: &World,
    book: &mut Book,
    delay_ms: i64,
    partition: i32,
    value: &str,
) -> Result<TimerId, Dead> {
    let due_ms = world.now_ms() + delay_ms;
    book.insert(value.to_owned(), Known { due_ms, ..Known::default() });
    let id = world.schedule(delay_ms, partition, value).await.map_err(|_| Dead)?;
    book.entry(value.to_owned()).or_default().scheduled = true;
    Ok(id)
}

async fn recall(world: &World, book: &mut Book, id: TimerId, value: &str) -> Result<(), Dead> {
    let known = book.entry(value.to_owned()).or_default();
    known.recall_asked = true;
    world.timers.recall(id).await.map_err(|_| Dead)?;
    known.recalled = true;
    Ok(())
}

async fn work(world: &World, book: &mut Book) -> Result<(), Dead> {
    for round in 0..4_i64 {
        let name = |what: &str| format!("{what}{round}{}", "x".repeat(300));
        schedule(world, book, 40, 0, &name("a")).await?;
        schedule(world, book, 60, 1, &name("b")).await?;
        let recalled = schedule(world, book, 500, 0, &name("c")).await?;
        schedule(world, book, 1_300_000 + round, 0, &name("far")).await?;
        let far = schedule(world, book, 1_300_000, 1, &name("farther")).await?;
        world.pass(50).await;
        recall(world, book, recalled, &name("c")).await?;
        if round % 2 == 0 {
            recall(world, book, far, &name("farther")).await?;
        }
        world.pass(30).await;
        if round == 2 {
            // Long enough for the first buckets to be over, and dropped.
            world.pass(2_500_000).await;
        }
    }
    Ok(())
}

async fn check(world: &World, book: &Book, what: &str) {
    world.pass(3_000_000).await;
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for queue in [QueueId(1), QueueId(2)] {
        for record in world.consumed(queue).await {
            let known = &book[&record.value];
            assert!(record.timestamp >= known.due_ms, "{what}: early: {record:?}");
            *seen.entry(record.value).or_default() += 1;
        }
    }
    for (value, known) in book {
        let times = seen.get(value).copied().unwrap_or(0);
        let name = &value[..2];
        assert!(times <= 1, "{what}: {name} came {times} times");
        if known.recalled {
            assert_eq!(times, 0, "{what}: {name} was recalled");
        } else if known.scheduled && !known.recall_asked {
            assert_eq!(times, 1, "{what}: {name} is lost");
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blow {
    Power,
    Kill,
}

/// Runs the workload with a cut at one operation; returns how many operations there were.
async fn life(cut_at: Option<u64>, blow: Blow, outcome: u64) -> u64 {
    let (env, sim) = sim::env(7);
    let topics = Arc::new(Topics::default());
    topics.queues.lock().unwrap().extend([(0, QueueId(1)), (1, QueueId(2))]);
    if let Some(operation) = cut_at {
        sim.fs.cut_at(operation);
    }
    let what = format!("{blow:?} at {cut_at:?}, outcome {outcome}");
    let mut book = Book::new();
    let world = World::on(env, sim.clone(), Arc::clone(&topics), 16 << 10).await;
    let ended = match &world {
        Some(world) => work(world, &mut book).await,
        None => Err(Dead),
    };
    // A cut may also come after the last answer.
    assert!(ended.is_ok() || cut_at.is_some(), "{what}");
    let operations = sim.fs.operations();
    if let Some(world) = world {
        world.end();
    }
    let (env, sim) = match blow {
        Blow::Power => sim.reboot(outcome),
        Blow::Kill => sim.restart(),
    };
    let world = World::on(env, sim, topics, 16 << 10).await.unwrap_or_else(|| panic!("{what}"));
    check(&world, &book, &what).await;
    // And once more, from what that life left.
    let world = world.restart().await;
    check(&world, &book, &what).await;
    world.end();
    operations
}

async fn cut_everywhere(blow: Blow) {
    let operations = life(None, blow, 0).await;
    assert!(operations > 60, "{operations} operations are too few to be a test");
    for operation in 1..=operations {
        // A kill leaves what was written; what a power cut leaves is up to chance.
        let outcomes = if blow == Blow::Power { 5 } else { 1 };
        for outcome in 1..=outcomes {
            life(Some(operation), blow, (operation * 8 + outcome).wrapping_mul(0x9E37_79B9)).await;
        }
    }
}

/// A life of chance: what is asked, how the clock is set, and where the power goes.
async fn life_of_chance(seed: u64) {
    let rng = SeededRng::from_seed(seed);
    let below = |most: u64| i64::try_from(rng.next_u64() % most).unwrap();
    let (mut env, mut sim) = sim::env(seed);
    let topics = Arc::new(Topics::default());
    topics.queues.lock().unwrap().extend([(0, QueueId(1)), (1, QueueId(2))]);
    let mut book = Book::new();
    let mut ids = Vec::new();
    for round in 0..4 {
        let what = format!("seed {seed}, round {round}");
        let world = World::on(env, sim.clone(), Arc::clone(&topics), 16 << 10).await;
        let world = world.unwrap_or_else(|| panic!("{what} does not start"));
        world.sim.fs.cut_at(world.sim.fs.operations() + rng.next_u64() % 60);
        for act in 0..30 {
            let delay_ms = [50, 1_000, 700_000, 3_000_000]
                .get(usize::try_from(below(4)).unwrap())
                .map_or(0, |most| below(*most) - most.cast_signed() / 8);
            let alive = match below(10) {
                0..5 => {
                    let size = usize::try_from(below(600)).unwrap();
                    let value = format!("{round}.{act} {}", "x".repeat(size));
                    let partition = i32::from(below(2) == 0);
                    let id = schedule(&world, &mut book, delay_ms, partition, &value).await;
                    id.map(|id| ids.push((id, value)))
                }
                5 if !ids.is_empty() => {
                    let (id, value) = ids.remove(usize::try_from(below(64)).unwrap() % ids.len());
                    // It may have been delivered, or be forgotten.
                    match recall(&world, &mut book, id, &value).await {
                        Ok(()) => Ok(()),
                        Err(Dead) if world.sim.fs.is_off() => Err(Dead),
                        Err(Dead) => {
                            book.entry(value).or_default().recall_asked = false;
                            Ok(())
                        }
                    }
                }
                6 => {
                    world.sim.clock.jump_wall_ms(below(4_000_000) - 2_000_000);
                    Ok(())
                }
                _ => {
                    world.pass(below(2_000).cast_unsigned()).await;
                    Ok(())
                }
            };
            if alive.is_err() {
                break;
            }
        }
        world.end();
        (env, sim) = sim.reboot(rng.next_u64());
    }
    let what = format!("seed {seed}");
    let world = World::on(env, sim, topics, 16 << 10).await.unwrap_or_else(|| panic!("{what}"));
    // Whatever the clock was set to: all is due by then.
    let last_ms = book.values().map(|known| known.due_ms).max().unwrap_or(0);
    world.sim.clock.jump_wall_ms((last_ms - world.now_ms()).max(0));
    check(&world, &book, &what).await;
    world.end();
}

#[tokio::test(start_paused = true)]
async fn lives_of_chance_neither_lose_nor_double_nor_hurry_a_message() {
    for seed in 0..150 {
        life_of_chance(seed).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_power_cut_at_any_operation_neither_loses_nor_doubles_a_message() {
    cut_everywhere(Blow::Power).await;
}

#[tokio::test(start_paused = true)]
async fn a_kill_at_any_operation_neither_loses_nor_doubles_a_message() {
    cut_everywhere(Blow::Kill).await;
}
