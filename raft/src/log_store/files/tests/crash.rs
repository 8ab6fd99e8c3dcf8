//! A workload cut at every operation, and again at every operation of the recovery.

use braid_base::env::sim::{self, Fault, SimHandles};

use super::*;

/// A change of the log.
#[derive(Debug, Clone)]
enum Step {
    Append(Vec<Entry>),
    Truncate(u64),
    Purge(LogId),
    Vote(u64),
}

/// Appends of one to three entries of changing size, votes, a truncation, purges; enough of all
/// to roll and to drop segments.
fn workload() -> Vec<Step> {
    let mut steps = vec![Step::Vote(1)];
    let mut next = 0;
    for round in 0..12u64 {
        let count = round % 3 + 1;
        let size = |index: u64| usize::try_from(index * 37 % 300).unwrap();
        let entries = (next..next + count).map(|index| entry(round + 1, index, size(index)));
        steps.push(Step::Append(entries.collect()));
        next += count;
        if round == 4 {
            steps.push(Step::Truncate(next - 2));
            next -= 2;
        }
        if round % 4 == 3 {
            steps.push(Step::Purge(log_id(round + 1, next - 2)));
            steps.push(Step::Vote(round));
        }
    }
    steps
}

fn run(log: &mut LogFiles, step: &Step) -> Result<(), LogError> {
    match step {
        Step::Append(entries) => {
            // Committed is what was there before: of the new ones some will be truncated.
            log.set_committed(log.last_log_id());
            log.append(entries.clone())?;
        }
        Step::Truncate(from) => log.truncate(*from)?,
        Step::Purge(upto) => log.purge(*upto)?,
        Step::Vote(term) => log.save_vote(vote(*term))?,
    }
    Ok(())
}

/// What a log may hold after the step was cut: it is not there, whole, or (of several entries in
/// one write) there in part.
fn possible(before: &Content, step: &Step) -> Vec<Content> {
    let with = |change: &dyn Fn(&mut Content)| {
        let mut content = before.clone();
        change(&mut content);
        content
    };
    let mut possible = vec![before.clone()];
    match step {
        Step::Append(entries) => possible.extend((1..=entries.len()).map(|count| {
            with(&|content| content.entries.extend(entries.iter().take(count).cloned()))
        })),
        Step::Truncate(from) => {
            possible.push(with(&|it| it.entries.retain(|entry| entry.log_id.index < *from)));
        }
        Step::Purge(upto) => possible.push(with(&|content| {
            content.purged = Some(*upto);
            content.entries.retain(|entry| entry.log_id.index > upto.index);
        })),
        Step::Vote(term) => possible.push(with(&|content| content.vote = Some(vote(*term)))),
    }
    possible
}

/// Runs the workload until the cut; what the log may hold then.
fn run_until_cut(fs: &Arc<dyn Fs>, steps: &[Step]) -> Vec<Content> {
    let mut content = Content::default();
    let Ok(mut log) = open(fs) else { return vec![content] };
    for step in steps {
        if run(&mut log, step).is_err() {
            return possible(&content, step);
        }
        content = possible(&content, step).pop().unwrap();
    }
    vec![content]
}

fn check(fs: &Arc<dyn Fs>, allowed: &[Content], what: &str) {
    let mut log = open(fs).unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = content(&log);
    assert!(allowed.contains(&found), "{what}: {found:#?}\nnot one of {allowed:#?}");
    let committed = log.state().committed.map(|id| id.index);
    assert!(committed <= log.last_log_id().map(|id| id.index), "{what}");
    // It takes writes again, and keeps them.
    let next = log.next_index;
    log.append(vec![entry(99, next, 30)]).unwrap();
    assert_eq!(open(fs).unwrap().last_log_id(), Some(log_id(99, next)), "{what}");
}

fn operations_of_workload(steps: &[Step]) -> u64 {
    let (env, machine) = sim::env(0);
    run_until_cut(&env.fs, steps);
    assert_eq!(machine.fs.violations(), Vec::<String>::new());
    machine.fs.operations()
}

fn cut_at(operation: u64, steps: &[Step]) -> (Vec<Content>, SimHandles) {
    let (env, machine) = sim::env(operation);
    machine.fs.cut_at(operation);
    (run_until_cut(&env.fs, steps), machine)
}

#[test]
fn no_cut_loses_or_invents_anything() {
    let steps = workload();
    let operations = operations_of_workload(&steps);
    assert!(operations > 60, "{operations}");
    for operation in 1..=operations {
        for seed in 0..8 {
            let (allowed, machine) = cut_at(operation, &steps);
            let (env, _) = machine.reboot(seed);
            check(&env.fs, &allowed, &format!("cut at {operation}, seed {seed}"));
        }
        let (allowed, machine) = cut_at(operation, &steps);
        let (env, _) = machine.restart();
        check(&env.fs, &allowed, &format!("killed at {operation}"));
    }
}

#[test]
fn no_cut_during_recovery_loses_or_invents_anything() {
    let steps = workload();
    for operation in 1..=operations_of_workload(&steps) {
        let seed = operation;
        for again in 1..=6 {
            let (allowed, machine) = cut_at(operation, &steps);
            let (env, machine) = machine.reboot(seed);
            machine.fs.cut_at(machine.fs.operations() + again);
            let recovered = open(&env.fs).is_ok();
            let (env, _) = machine.reboot(seed + again);
            check(&env.fs, &allowed, &format!("cut at {operation} and {again} of recovery"));
            if recovered {
                break;
            }
        }
    }
}

/// What a recovery reported, and what was then written behind it, outlasts a power cut.
fn check_lasting(machine: &SimHandles, allowed: &[Content], what: &str) {
    let (env, machine) = machine.restart();
    let mut log = open(&env.fs).unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut reported = content(&log);
    assert!(allowed.contains(&reported), "{what}: {reported:#?}");
    let (env, machine) = machine.reboot(1);
    drop(log);
    log = open(&env.fs).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(content(&log), reported, "{what}, at once");

    let (env, machine) = machine.restart();
    log = open(&env.fs).unwrap_or_else(|error| panic!("{what}: {error}"));
    let new = entry(99, log.next_index, 30);
    log.append(vec![new.clone()]).unwrap();
    reported.entries.push(new);
    let (env, _) = machine.reboot(2);
    assert_eq!(content(&open(&env.fs).unwrap()), reported, "{what}, with one entry more");
}

#[test]
fn what_was_recovered_after_a_kill_survives_a_power_cut() {
    let steps = workload();
    for operation in 1..=operations_of_workload(&steps) {
        let (allowed, machine) = cut_at(operation, &steps);
        check_lasting(&machine, &allowed, &format!("killed at {operation}"));
    }
}

/// After a failed sync the system keeps what it could not write, and says that it is clean.
#[test]
fn what_was_recovered_after_a_failed_sync_survives_a_power_cut() {
    let steps = workload();
    for operation in 1..=operations_of_workload(&steps) {
        let (env, machine) = sim::env(operation);
        machine.fs.fail_at(operation, Fault::Eio);
        let allowed = run_until_cut(&env.fs, &steps);
        check_lasting(&machine, &allowed, &format!("sync failed at {operation}"));
    }
}
