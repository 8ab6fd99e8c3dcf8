//! Power cuts, and kills, at every operation of random lives of the engine on its store.
//!
//! A life sends halves, ends them, lets them be asked about and expire. It runs once uncut to count
//! the disk's operations; then again and again with the power cut at one of them. What the next
//! lives must show: whatever was answered still holds; a half that is seen was committed, once; no
//! half has two ends; no check comes too early or twice.

use std::collections::BTreeMap;
use std::time::Duration;

use super::engine::pause;
use super::world::{DISCARD, World, half};
use crate::config::HalfConfig;
use crate::env::Rng;
use crate::env::rng::SeededRng;
use crate::env::sim::{self, SimHandles};
use crate::half::{
    End, EndError, HalfState, Outcome, SendHalf, ShowError, TransactionId, Unavailable,
};
use crate::model::QueueId;

const STEPS: usize = 14;
const CONFIG: HalfConfig =
    HalfConfig { age_max: Duration::from_secs(1200), ..super::world::CONFIG };
/// Simulated time after which an engine that says nothing is dead.
const PATIENCE: Duration = Duration::from_secs(100_000);

/// The power is off; what was asked last is not answered.
#[derive(Debug)]
struct Dead;

#[derive(Debug)]
struct Half {
    /// Once its sending was answered.
    id: Option<TransactionId>,
    partition: i32,
    commit_asked: bool,
    rollback_asked: bool,
    /// An end that somebody was told.
    end: Option<End>,
    /// The last check that was handed out, when, and whether it may come again.
    checked: Option<(u16, Duration, bool)>,
}

#[derive(Debug)]
struct Known {
    dice: SeededRng,
    /// By value.
    halves: BTreeMap<String, Half>,
    produced: usize,
}

fn below(dice: &SeededRng, end: u64) -> u64 {
    dice.next_u64() % end
}

async fn answered<T>(answer: impl Future<Output = T>) -> Result<T, Dead> {
    tokio::time::timeout(PATIENCE, answer).await.map_err(|_| Dead)
}

/// An answer, or that the log has failed. Everything else passes by itself.
fn alive<T>(answer: Result<T, Unavailable>) -> Result<Option<T>, Dead> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(Unavailable::LogFailed | Unavailable::Stopping) => Err(Dead),
        Err(Unavailable::NotReady | Unavailable::Loading) => Ok(None),
        Err(unavailable) => panic!("{unavailable}"),
    }
}

impl Known {
    fn of(seed: u64) -> Self {
        Self { dice: SeededRng::from_seed(seed), halves: BTreeMap::new(), produced: 0 }
    }

    async fn live(&mut self, world: &World, steps: usize) -> Result<(), Dead> {
        answered(world.loaded()).await?;
        for _ in 0..steps {
            match below(&self.dice, 16) {
                0..5 => self.send(world).await?,
                5..8 => self.end(world, true, false).await?,
                8..9 => self.end(world, false, true).await?,
                9..11 => self.end(world, true, true).await?,
                11..14 => self.poll(world).await?,
                14 => self.produce(world).await?,
                _ => {
                    let ms = [700, 40_000, 1_900_000][self.pick(3)];
                    pause(Duration::from_millis(ms)).await;
                }
            }
        }
        Ok(())
    }

    fn pick(&self, count: usize) -> usize {
        usize::try_from(below(&self.dice, count as u64)).unwrap()
    }

    async fn send(&mut self, world: &World) -> Result<(), Dead> {
        let first = self.halves.len();
        let count = 1 + self.pick(3);
        let mut sends = Vec::new();
        for value in (first..first + count).map(|number| format!("v{number}")) {
            let partition = i32::try_from(self.pick(2)).unwrap();
            let (commit_asked, rollback_asked) = (false, false);
            let known = Half {
                id: None,
                partition,
                commit_asked,
                rollback_asked,
                end: None,
                checked: None,
            };
            sends.push((value.clone(), SendHalf { partition, ..half(&value) }));
            self.halves.insert(value, known);
        }
        for (value, half) in sends {
            let sent = answered(world.try_send(half)).await?;
            let sent = sent.map_err(|error| match error {
                crate::half::SendError::Unavailable(unavailable) => unavailable,
                error => panic!("{error}"),
            });
            if let Some(sent) = alive(sent)? {
                self.halves.get_mut(&value).unwrap().id = Some(sent.id);
            }
        }
        Ok(())
    }

    async fn end(&mut self, world: &World, commits: bool, rolls_back: bool) -> Result<(), Dead> {
        let known: Vec<_> = self.halves.values_mut().filter(|half| half.id.is_some()).collect();
        if known.is_empty() {
            return Ok(());
        }
        let at = usize::try_from(self.dice.next_u64() % known.len() as u64).unwrap();
        let half = known.into_iter().nth(at).unwrap();
        let id = half.id.unwrap();
        half.commit_asked |= commits;
        half.rollback_asked |= rolls_back;
        let both = answered(async {
            tokio::join!(
                async { if commits { Some(world.commit(id).await) } else { None } },
                async { if rolls_back { Some(world.roll_back(id).await) } else { None } },
            )
        });
        let (commit, rollback) = both.await?;
        for answer in [commit, rollback].into_iter().flatten() {
            let end = match answer {
                Ok(end) | Err(EndError::Ended(end)) => end,
                Err(EndError::Unavailable(unavailable)) => {
                    alive::<()>(Err(unavailable))?;
                    continue;
                }
                // Its record was behind the cut.
                Err(EndError::Unreadable) => return Err(Dead),
                // It ended long ago; how, is looked at in the end.
                Err(EndError::Unknown) => continue,
                Err(error) => panic!("{error}"),
            };
            assert_eq!(*half.end.get_or_insert(end), end, "one end, and all are told the same");
        }
        Ok(())
    }

    async fn poll(&mut self, world: &World) -> Result<(), Dead> {
        let wait = Duration::from_secs(below(&self.dice, 50));
        let max = 1 + self.pick(3);
        let checks = answered(world.halves.poll_checks("shop", max, wait)).await?;
        let now = world.env.clock.monotonic();
        for check in alive(checks)?.unwrap_or_default() {
            let value = super::world::text(check.half.message.value.as_deref().unwrap());
            let gives_back = below(&self.dice, 4) == 0;
            let half = self.halves.get_mut(&value).unwrap();
            assert!(half.end.is_none(), "{value} is asked about after its end");
            assert!(check.number <= CONFIG.checks_max);
            if let Some((number, at, may_repeat)) = half.checked {
                let is_next = check.number > number || may_repeat && check.number == number;
                assert!(is_next, "check {} of {value} after {number}", check.number);
                let is_early = now < at + CONFIG.check_interval - Duration::from_millis(1);
                assert!(may_repeat || !is_early, "check {} of {value}", check.number);
            }
            half.checked = Some((check.number, now, gives_back));
            if gives_back {
                let returned = world.halves.return_check(check.half.id, check.number);
                let _dead_or_late = answered(returned).await?;
            }
        }
        Ok(())
    }

    async fn produce(&mut self, world: &World) -> Result<(), Dead> {
        self.produced += 1;
        let queue = QueueId(10 + u32::try_from(self.pick(2)).unwrap());
        let value = format!("other{}", self.produced);
        let appended = world.try_produce(queue, &value).await;
        if appended { Ok(()) } else { Err(Dead) }
    }

    /// What is on the disk says the same as what was answered.
    async fn check(&self, world: &World) {
        let mut places = Vec::new();
        for queue in [10, 11, DISCARD.0].map(QueueId) {
            for seen in world.read(queue).await {
                places.push((seen.value.clone().unwrap(), queue, seen.offset));
            }
        }
        for (value, half) in &self.halves {
            let found: Vec<_> = places.iter().filter(|(other, ..)| other == value).collect();
            assert!(found.len() <= 1, "{value} is seen {} times", found.len());
            let discarded = found.iter().any(|(_, queue, _)| *queue == DISCARD);
            let seen_at = found.iter().find(|(_, queue, _)| *queue != DISCARD);
            assert!(half.commit_asked || seen_at.is_none(), "{value} was never committed");
            let Some(id) = half.id else { continue };
            match world.halves.get(id).await {
                Ok(HalfState::Pending(_)) => {
                    assert!(found.is_empty(), "{value} is pending and seen");
                    assert_eq!(half.end, None, "of {value}");
                }
                Ok(HalfState::Ended(end)) => {
                    assert_eq!(half.end.unwrap_or(end), end, "of {value}");
                    match end.outcome {
                        Outcome::Committed { partition, offset, .. } => {
                            let (_, queue, at) = seen_at.unwrap();
                            assert_eq!((Some(*at), partition), (offset, half.partition));
                            assert_eq!(queue.0, 10 + partition.unsigned_abs());
                        }
                        Outcome::RolledBack { .. } => {
                            assert!(half.rollback_asked && found.is_empty(), "{value}");
                        }
                        Outcome::Expired { .. } => assert!(discarded, "{value}"),
                    }
                }
                // It ended long ago: what it became is all there is.
                Err(ShowError::Unknown) => match half.end.map(|end| end.outcome) {
                    Some(Outcome::Committed { .. }) => assert!(seen_at.is_some(), "{value}"),
                    Some(Outcome::RolledBack { .. }) => assert!(found.is_empty(), "{value}"),
                    Some(Outcome::Expired { .. }) => assert!(discarded, "{value}"),
                    None => assert!(half.rollback_asked || found.len() == 1, "{value} is lost"),
                },
                Err(error) => panic!("{value}: {error}"),
            }
        }
    }

    /// Nobody decides anything any more: every half ends.
    async fn drain(&self, world: &World) {
        pause(CONFIG.age_max + Duration::from_secs(60)).await;
        assert_eq!(world.halves.counts().await.unwrap().pending, 0);
        self.check(world).await;
    }
}

fn in_simulation<T>(future: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(future)
}

/// How many operations the life takes when nothing goes wrong.
fn operations_of(seed: u64) -> u64 {
    in_simulation(async {
        let (env, sim) = sim::env(seed);
        let world = World::on(env, sim, World::topics(), CONFIG).unwrap();
        let mut known = Known::of(seed);
        known.live(&world, STEPS).await.unwrap();
        known.check(&world).await;
        known.drain(&world).await;
        world.sim.fs.operations()
    })
}

/// A world on this machine, if the power holds so long.
fn begin(sim: SimHandles, env: crate::env::Env) -> Result<World, SimHandles> {
    World::on(env, sim.clone(), World::topics(), CONFIG).map_err(|_| sim)
}

async fn cut_and_recover(seed: u64, cut: u64) -> u64 {
    let (env, mut sim) = sim::env(seed);
    sim.fs.cut_at(cut);
    let mut known = Known::of(seed);
    let mut cuts = 0;
    let later = SeededRng::from_seed(seed ^ cut << 20);
    let mut begun = begin(sim, env);
    for life in 0..3 {
        sim = match begun {
            Ok(world) => {
                let lived = known.live(&world, if life == 0 { STEPS } else { 5 }).await;
                if lived.is_ok() && !world.sim.fs.is_off() {
                    known.check(&world).await;
                }
                world.sim
            }
            Err(sim) => sim,
        };
        cuts += u64::from(sim.fs.is_off());
        let (env, next) =
            if below(&later, 3) > 0 { sim.reboot(later.next_u64()) } else { sim.restart() };
        if life < 2 && below(&later, 2) == 0 {
            next.fs.cut_at(next.fs.operations() + 1 + below(&later, 40));
        }
        begun = begin(next, env);
    }
    let Ok(world) = begun else { panic!("nothing cut the last start") };
    world.loaded().await;
    known.check(&world).await;
    known.drain(&world).await;
    cuts
}

fn cut_everywhere(seeds: std::ops::Range<u64>) {
    let mut cuts = 0;
    for seed in seeds {
        for cut in 1..=operations_of(seed) {
            let lived = std::panic::catch_unwind(|| in_simulation(cut_and_recover(seed, cut)));
            cuts += lived.unwrap_or_else(|_| panic!("cut_and_recover({seed}, {cut}) failed"));
        }
    }
    assert!(cuts >= CUTS_MIN, "only {cuts} cuts");
}

const CUTS_MIN: u64 = 300;

// Apart, so that they run side by side.
#[test]
fn whatever_is_cut_a_half_has_one_end_and_is_seen_once_a() {
    cut_everywhere(0..6);
}

#[test]
fn whatever_is_cut_a_half_has_one_end_and_is_seen_once_b() {
    cut_everywhere(6..12);
}
