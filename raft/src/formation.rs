//! How a cluster comes into being: once, out of empty directories.
//!
//! The voters of the configuration look for each other. When all of them are there and none belongs to
//! a cluster, the one with the lowest number names the cluster, writes down which directory stands for
//! which voter, and tells the others; each of them writes the same down before it takes part. From
//! then on a voter is its directory: one that was emptied has another mark, is refused by everybody,
//! and says so. It waits rather than guesses whenever somebody is missing.

use std::collections::BTreeMap;
use std::time::Duration;

use braid_base::env::Env;
use braid_base::model::BrokerId;
use tokio::time::timeout;

use crate::command::ClusterId;
use crate::controller::Controller;
use crate::directory::{self, OpenError};
use crate::identity::Identity;
use crate::network::greeting::GreetingError;
use crate::network::link::Link;
use crate::network::session::{Introduction, Refusal};

/// How long a voter may take to answer.
const ASK_WITHIN: Duration = Duration::from_secs(2);
/// How often the others are asked.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(250);

/// Waits until the cluster is formed, forming it if that is this node's part.
pub(crate) async fn form(env: &Env, controller: &Controller) -> Result<(), OpenError> {
    let member = &controller.member;
    let mut told = String::new();
    while member.identity().is_none() {
        let (there, missing) = look_for_others(env, controller).await?;
        if missing.is_empty() && voters_begin_with(controller) {
            return found(env, controller, &there).await;
        }
        let why = if missing.is_empty() {
            let first = member.voters().first().copied().unwrap_or(member.node_id);
            format!("node {first} is about to form it")
        } else {
            missing.join("; ")
        };
        if why != told {
            tracing::info!("waiting for the cluster to be formed: {why}");
            told = why;
        }
        // Forming is another's part, or not possible yet.
        drop(timeout(ASK_AGAIN_AFTER, member.formed()).await);
    }
    Ok(())
}

fn voters_begin_with(controller: &Controller) -> bool {
    controller.member.voters().first() == Some(&controller.member.node_id)
}

/// The others that are there and belong to no cluster yet, and what is with the rest.
async fn look_for_others(
    env: &Env,
    controller: &Controller,
) -> Result<(Vec<Introduction>, Vec<String>), OpenError> {
    let member = &controller.member;
    let (mut there, mut missing) = (Vec::new(), Vec::new());
    for (other, address) in member.others() {
        let link = Link::new(&env.net, member, other);
        match timeout(ASK_WITHIN, link.greet()).await {
            Ok(Ok(connection)) => match &connection.peer.cluster_id {
                None => there.push(connection.peer),
                Some(id) => missing.push(format!("node {other} will say of cluster {id}")),
            },
            Ok(Err(GreetingError::RefusedThere(Refusal::OtherDirectory {
                cluster_id, ..
            }))) => {
                let (dir, node_id) = (controller.dir.clone(), member.node_id);
                let directory = member.directory_id;
                return Err(OpenError::Emptied { dir, node_id, cluster_id, directory });
            }
            Ok(Err(error)) => missing.push(format!("node {other} at {address}: {error}")),
            Err(_) => missing.push(format!("node {other} at {address} does not answer")),
        }
    }
    Ok((there, missing))
}

/// Names the cluster. The others are told by whoever next has to do with them.
async fn found(
    env: &Env,
    controller: &Controller,
    others: &[Introduction],
) -> Result<(), OpenError> {
    let member = &controller.member;
    let own = (member.node_id, member.directory_id);
    let others = others.iter().map(|other| (other.node_id, other.directory_id));
    let voters: BTreeMap<BrokerId, _> = others.chain([own]).collect();
    let cluster_id =
        member.wanted.clone().unwrap_or_else(|| ClusterId::from_uuid(env.rng.next_uuid()));
    let identity = Identity {
        cluster_id,
        node_id: member.node_id,
        directory_id: member.directory_id,
        voters: voters.into_iter().collect(),
        joined: false,
    };
    directory::become_member(env, &controller.dir, &identity).await?;
    tracing::info!(cluster_id = %identity.cluster_id, "formed a new cluster");
    member.become_formed(identity);
    Ok(())
}
