//! Power cuts and kills at every operation of random lives of the engine on its store.
//!
//! A life produces, receives, acknowledges, gives messages up and re-drives the dead ones. It runs once uncut to count the
//! disk's operations; then again with the power cut at one of them. What the next lives must show:
//! what was acknowledged does not come back; no lease is given twice within its time; attempts are
//! counted without a gap but for those whose answer the cut took; everything is delivered until it
//! is acknowledged or is one dead letter, which is re-driven once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::world::{DEAD, GROUP, Topics, World, request, value};
use crate::delivery::{
    Delivered, GroupSettings, ReceiveError, ReceiveRequest, Target, Unavailable, Which,
};
use crate::env::Rng;
use crate::env::rng::SeededRng;
use crate::env::sim;
use crate::model::QueueId;

const STEPS: usize = 40;
const ATTEMPTS_MAX: u16 = 3;
/// Simulated time after which an engine that says nothing is dead.
const PATIENCE: Duration = Duration::from_secs(100_000);

/// The power is off; what was asked last is not answered.
#[derive(Debug)]
struct Dead;

/// What is known of a message.
#[derive(Debug, Default)]
struct Known {
    attempt: u16,
    /// A receive was not answered since, which may have counted attempts.
    may_have_missed: bool,
    until_ms: i64,
    acked: bool,
    /// A cut took the answer of a receive: attempts may be counted that nobody saw.
    unsure: bool,
    /// It was acknowledged, and perhaps a cut took the answer.
    ack_asked: bool,
}

struct Life {
    dice: SeededRng,
    known: BTreeMap<String, Known>,
    produced: BTreeSet<String>,
    held: Vec<Delivered>,
}

async fn answered<T>(answer: impl Future<Output = T>) -> Result<T, Dead> {
    tokio::time::timeout(PATIENCE, answer).await.map_err(|_| Dead)
}

impl Life {
    fn new(seed: u64) -> Self {
        Self {
            dice: SeededRng::from_seed(seed),
            known: BTreeMap::new(),
            produced: BTreeSet::new(),
            held: Vec::new(),
        }
    }

    fn below(&self, end: u64) -> u64 {
        self.dice.next_u64() % end
    }

    async fn live(&mut self, world: &World, steps: usize) -> Result<(), Dead> {
        answered(world.loaded()).await?;
        for _ in 0..steps {
            match self.below(10) {
                0..3 => self.produce(world).await?,
                3..6 => self.receive(world).await?,
                6..8 => self.judge(world).await?,
                8 => self.re_drive(world).await?,
                _ => tokio::time::sleep(Duration::from_millis(self.below(40_000))).await,
            }
        }
        Ok(())
    }

    async fn produce(&mut self, world: &World) -> Result<(), Dead> {
        let number = self.known.len();
        let values: Vec<String> = (0..=self.below(4)).map(|n| format!("{number}-{n}")).collect();
        for value in &values {
            self.known.entry(value.clone()).or_default();
        }
        let texts: Vec<&str> = values.iter().map(String::as_str).collect();
        let queue = 10 + u32::try_from(self.below(2)).unwrap();
        world.try_produce(queue, &texts).await.map_err(|()| Dead)?;
        self.produced.extend(values);
        Ok(())
    }

    async fn receive(&mut self, world: &World) -> Result<(), Dead> {
        let max = 1 + usize::try_from(self.below(6)).unwrap();
        let asked = ReceiveRequest { max, ..request() };
        self.known.values_mut().for_each(|known| known.may_have_missed = true);
        let delivered = match answered(world.try_receive(asked)).await? {
            Ok(delivered) => delivered,
            Err(ReceiveError::Unavailable(Unavailable::Busy)) => return Ok(()),
            Err(_) => return Err(Dead),
        };
        // Answered: nothing was missed by this one. What an earlier cut took stays unknown.
        let now_ms = world.env.clock.wall_ms();
        for one in delivered {
            let name = value(&one.message);
            let known = self.known.get_mut(&name).expect("it was produced");
            assert!(!known.acked, "{name} was acknowledged");
            assert!(known.until_ms <= now_ms, "{name} is leased until {}", known.until_ms);
            assert!(one.attempt > known.attempt && one.attempt <= ATTEMPTS_MAX, "{name}: {one:?}");
            if !self.lost_answers(&name) {
                assert_eq!(one.attempt, self.known[&name].attempt + 1, "{name}");
            }
            let known = self.known.get_mut(&name).expect("it was produced");
            (known.attempt, known.until_ms) = (one.attempt, one.until_ms);
            known.unsure = false;
            self.held.push(one);
        }
        self.known.values_mut().for_each(|known| known.may_have_missed = known.unsure);
        Ok(())
    }

    fn lost_answers(&self, name: &str) -> bool {
        self.known[name].unsure
    }

    /// After a cut: the last receive may have counted attempts that nobody saw.
    fn cut(&mut self) {
        for known in self.known.values_mut() {
            known.unsure |= known.may_have_missed;
        }
    }

    async fn judge(&mut self, world: &World) -> Result<(), Dead> {
        if self.held.is_empty() {
            return Ok(());
        }
        let at = usize::try_from(self.below(self.held.len() as u64)).unwrap();
        let one = self.held.swap_remove(at);
        let name = value(&one.message);
        let known = self.known.get_mut(&name).expect("it was produced");
        let choice = self.dice.next_u64() % 4;
        if choice == 0 {
            // From now on it may come back at any time.
            known.until_ms = 0;
            let said = world.deliveries.nack(GROUP, &one.handle, Some(2_000));
            let _any = answered(said).await?;
        } else if choice == 1 {
            // Long, so that a dead letter lies across sectors of which a cut leaves some.
            let reason = "bad ".repeat(200);
            let said = world.deliveries.forward_to_dead_letter(GROUP, &one.handle, Some(&reason));
            let _any = answered(said).await?;
        } else {
            known.ack_asked = true;
            let handles = [&*one.handle];
            let said = answered(world.deliveries.ack(GROUP, &handles)).await?;
            match said[0] {
                Ok(()) => known.acked = true,
                Err(crate::delivery::LeaseError::Unavailable(Unavailable::Stopped)) => {
                    return Err(Dead);
                }
                // Too late: it was delivered again or is a dead letter.
                Err(_) => known.ack_asked = false,
            }
        }
        Ok(())
    }

    async fn re_drive(&self, world: &World) -> Result<(), Dead> {
        let elsewhere = Target::Topic("other".into());
        let settled = world.deliveries.re_drive(GROUP, Which::All, elsewhere);
        answered(settled).await?.map_or(Err(Dead), |_| Ok(()))
    }

    /// Everything is delivered until it is acknowledged or dead, once.
    async fn drain(&mut self, world: &World) {
        self.live(world, 0).await.expect("the power stays on");
        for _ in 0..200 {
            tokio::time::sleep(Duration::from_secs(31)).await;
            let held = self.held.len();
            self.receive(world).await.expect("the power stays on");
            for one in self.held.split_off(held) {
                world.ack(std::slice::from_ref(&one)).await;
                self.known.get_mut(&value(&one.message)).expect("it was produced").acked = true;
            }
            let progress = world.deliveries.progress(GROUP).await.unwrap().unwrap_or_default();
            if progress.iter().all(|progress| progress.lag == 0) && !progress.is_empty() {
                break;
            }
        }
        let dead: Vec<String> = world.read(DEAD).await.iter().map(value).collect();
        for name in &self.produced {
            let copies = dead.iter().filter(|dead| *dead == name).count();
            let known = &self.known[name];
            assert!(copies <= 1, "{name} died {copies} times");
            assert!(!(known.acked && copies == 1), "{name} is acknowledged and dead");
            assert!(known.acked || copies == 1 || known.ack_asked, "{name} is lost");
        }
        self.re_drive(world).await.expect("the power stays on");
        let moved = world.read(QueueId(20)).await;
        let sorted = |mut names: Vec<String>| {
            names.sort_unstable();
            names
        };
        let moved = sorted(moved.iter().map(value).collect());
        assert_eq!(moved, sorted(dead), "each dead letter goes back once");
    }
}

fn settings() -> GroupSettings {
    GroupSettings { attempts_max: ATTEMPTS_MAX, ..GroupSettings::default() }
}

async fn uncut(seed: u64) -> u64 {
    let (env, sim) = sim::env(seed);
    let world = World::on(env, sim, Arc::new(Topics::new(settings()))).unwrap();
    let mut life = Life::new(seed);
    life.live(&world, STEPS).await.unwrap();
    let operations = world.sim.fs.operations();
    life.drain(&world).await;
    operations
}

async fn cut(seed: u64, operation: u64, is_power: bool) {
    let (env, sim) = sim::env(seed);
    sim.fs.cut_at(operation);
    let topics = Arc::new(Topics::new(settings()));
    let mut life = Life::new(seed);
    let sim = match World::on(env, sim.clone(), Arc::clone(&topics)) {
        Ok(world) => {
            let _dead = life.live(&world, STEPS).await;
            world.sim.clone()
        }
        Err(_) => sim,
    };
    life.cut();
    let (env, sim) = if is_power { sim.reboot(seed ^ operation) } else { sim.restart() };
    let world = World::on(env, sim, topics).unwrap();
    life.held.clear();
    life.drain(&world).await;
}

#[tokio::test(start_paused = true)]
async fn no_cut_loses_repeats_or_doubles_a_delivery() {
    for seed in 0..16 {
        let operations = uncut(seed).await;
        for operation in 1..=operations {
            cut(seed, operation, operation % 4 != 0).await;
        }
    }
}

/// Gives up whatever is received.
async fn give_up(world: &World) -> Result<(), Dead> {
    answered(world.loaded()).await?;
    for _ in 0..2 {
        let delivered = answered(world.receive_or_nothing()).await?;
        for one in delivered {
            // Long, so that a dead letter lies across sectors of which a cut leaves some.
            let reason = "bad ".repeat(250);
            let said = world.deliveries.forward_to_dead_letter(GROUP, &one.handle, Some(&reason));
            let _any = answered(said).await?;
        }
        tokio::time::sleep(Duration::from_secs(31)).await;
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_and_the_end_of_its_deliveries_are_one_step_whatever_is_cut() {
    let mut operation = 1;
    loop {
        let mut was_cut = false;
        for seed in 0..24 {
            let (env, sim) = sim::env(seed);
            sim.fs.cut_at(operation);
            let topics = Arc::new(Topics::new(settings()));
            if let Ok(world) = World::on(env, sim.clone(), Arc::clone(&topics)) {
                let _dead = world.try_produce(10, &["a", "b", "c"]).await;
                let _dead = give_up(&world).await;
            }
            was_cut |= sim.fs.is_off();
            let (env, sim) = sim.reboot(seed);
            let world = World::on(env, sim, topics).unwrap();
            give_up(&world).await.expect("the power stays on");
            let mut dead: Vec<String> = world.read(DEAD).await.iter().map(value).collect();
            dead.sort_unstable();
            let produced = world.read(QueueId(10)).await;
            let produced: Vec<String> = produced.iter().map(value).collect();
            assert_eq!(dead, produced, "cut at {operation}, seed {seed}");
        }
        if !was_cut {
            break;
        }
        operation += 1;
    }
    assert!(operation > 10, "only {operation} operations were cut");
}
