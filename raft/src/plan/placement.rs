//! Turns a request for a topic or for more partitions into replica lists, or into Kafka's error.
//!
//! Without an explicit assignment replicas are striped over the brokers and their racks, from a
//! starting broker that the topic's id decides, so that small topics do not all begin on the same one.

use std::collections::{BTreeMap, BTreeSet};

use braid_base::model::{BrokerId, TopicId};

use super::stripe::Stripe;
use crate::apply::{PARTITIONS_PER_TOPIC_MAX, check_new_topic};
use crate::command::{CreatePartitions, NewTopic, PartitionRun};
use crate::image::{Configs, MetadataImage, TopicImage};
use crate::outcome::{CreateTopicRejection, InvalidReplicas};

/// The replicas a client chose for one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The partition's number.
    pub partition: i32,
    /// Its replicas, the preferred leader first.
    pub replicas: Vec<BrokerId>,
}

/// A topic to create, as a client asks for it.
#[derive(Debug, Clone)]
pub struct TopicRequest {
    /// Its name.
    pub name: String,
    /// Its id, from the caller's random source.
    pub id: TopicId,
    /// Number of partitions; -1 is the default, and the only choice beside an assignment.
    pub partitions: i32,
    /// Replication factor; -1 is the default, and the only choice beside an assignment.
    pub replication_factor: i16,
    /// The client's own placement; empty leaves it to the cluster.
    pub assignments: Vec<Assignment>,
    /// Its own configs, already checked.
    pub configs: Configs,
}

/// Partitions to add to a topic, as a client asks for them.
#[derive(Debug, Clone)]
pub struct AddPartitionsRequest {
    /// The number of partitions that the topic shall have.
    pub count: i32,
    /// The client's own placement of the added partitions, in order; none leaves it to the cluster.
    pub assignments: Option<Vec<Vec<BrokerId>>>,
}

/// What the broker's configuration says about new partitions.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// `num.partitions`.
    pub default_partitions: i32,
    /// `default.replication.factor`.
    pub default_replication_factor: i16,
    /// The most partitions one request may create per topic.
    pub partitions_max: u32,
    /// The most replicas a partition may have.
    pub replication_factor_max: i16,
}

/// Why no placement was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// The topic would be refused whatever its placement.
    #[error(transparent)]
    Rejected(#[from] CreateTopicRejection),
    /// An assignment and a replication factor.
    #[error(
        "A manual partition assignment was specified, but replication factor was not set to -1."
    )]
    FactorWithAssignment,
    /// An assignment and a number of partitions.
    #[error("A manual partition assignment was specified, but numPartitions was not set to -1.")]
    CountWithAssignment,
    /// One partition assigned twice.
    #[error("Found multiple manual partition assignments for partition {0}")]
    DuplicateAssignment(i32),
    /// Partition numbers with a gap.
    #[error("partitions should be a consecutive 0-based integer sequence")]
    AssignmentGap,
    /// Partitions of one topic with different numbers of replicas.
    #[error(
        "The manual partition assignment includes a partition with {count} replica(s), but this \
         is not consistent with previous partitions, which have {expected} replica(s)."
    )]
    UnevenAssignment {
        /// The odd one's number of replicas.
        count: usize,
        /// What the others have.
        expected: usize,
    },
    /// A replica list that cannot be.
    #[error(transparent)]
    Replicas(#[from] InvalidReplicas),
    /// A replication factor of zero or below -1.
    #[error("Replication factor must be larger than 0, or -1 to use the default value.")]
    NonPositiveFactor,
    /// A number of partitions of zero or below -1.
    #[error("Number of partitions was set to an invalid non-positive value.")]
    NonPositiveCount,
    /// More replicas than brokers.
    #[error(
        "Unable to replicate the partition {factor} time(s): The target replication factor of \
         {factor} cannot be reached because only {brokers} broker(s) are registered or some \
         brokers have all their log directories cordoned."
    )]
    TooFewBrokers {
        /// The replication factor.
        factor: i16,
        /// The brokers there are.
        brokers: usize,
    },
    /// More replicas than are kept.
    #[error(
        "Unable to replicate the partition {factor} time(s): the largest replication factor of this \
         topic is {max}."
    )]
    NotReplicated {
        /// The replication factor.
        factor: usize,
        /// The largest there may be.
        max: i16,
    },
    /// Nobody who could lead a partition lives.
    #[error(
        "All brokers specified in the manual partition assignment for partition {0} are fenced or \
         in controlled shutdown."
    )]
    AllFenced(i32),
    /// More partitions than a request may create.
    #[error("Excessively large number of partitions per request.")]
    TooManyPartitions,
    /// The topic has this many partitions already.
    #[error("Topic already has {0} partition(s).")]
    CountUnchanged(usize),
    /// The topic has more partitions than asked for.
    #[error(
        "The topic {name} currently has {current} partition(s); {requested} would not be an \
         increase."
    )]
    NotAnIncrease {
        /// The topic.
        name: String,
        /// What it has.
        current: usize,
        /// What was asked for.
        requested: i32,
    },
    /// Not one assignment per added partition.
    #[error(
        "Attempted to add {added} additional partition(s), but only {assigned} assignment(s) were \
         specified."
    )]
    AssignmentCount {
        /// Partitions to add.
        added: u32,
        /// Assignments given.
        assigned: usize,
    },
}

/// Places a new topic.
///
/// # Errors
/// The request cannot be met, in Kafka's words.
pub fn place_topic(
    image: &MetadataImage,
    request: TopicRequest,
    limits: &Limits,
) -> Result<NewTopic, PlacementError> {
    let partitions = if request.assignments.is_empty() {
        striped(image, &request, limits)
    } else {
        assigned(image, &request, limits)
    };
    let mut topic = NewTopic {
        name: request.name,
        id: request.id,
        partitions: Vec::new(),
        configs: request.configs,
    };
    match partitions {
        Ok(partitions) => {
            topic.partitions = partitions;
            check_new_topic(image, &topic)?;
            Ok(topic)
        }
        // As in Kafka the name is judged first, whatever is wrong with the placement.
        Err(error) => match check_new_topic(image, &topic) {
            Err(CreateTopicRejection::Partitions(_)) | Ok(_) => Err(error),
            Err(rejection) => Err(rejection.into()),
        },
    }
}

/// Plans more partitions for a topic.
///
/// # Errors
/// The request cannot be met, in Kafka's words.
pub fn add_partitions(
    image: &MetadataImage,
    topic: &TopicImage,
    request: &AddPartitionsRequest,
    limits: &Limits,
) -> Result<CreatePartitions, PlacementError> {
    let current = topic.partitions.len();
    // A negative number is no increase either.
    let requested = usize::try_from(request.count).unwrap_or_default();
    if requested == current {
        return Err(PlacementError::CountUnchanged(current));
    }
    if requested < current {
        let name = topic.name.to_string();
        return Err(PlacementError::NotAnIncrease { name, current, requested: request.count });
    }
    let added = match u32::try_from(requested - current) {
        Ok(added)
            if added <= limits.partitions_max && requested <= PARTITIONS_PER_TOPIC_MAX as usize =>
        {
            added
        }
        Ok(_) | Err(_) => return Err(PlacementError::TooManyPartitions),
    };
    let factor = replication_factor(image, topic);
    let mut runs = Runs::default();
    match &request.assignments {
        Some(assignments) if assignments.len() != added as usize => {
            return Err(PlacementError::AssignmentCount { added, assigned: assignments.len() });
        }
        Some(assignments) => {
            let first = i32::try_from(current).unwrap_or(i32::MAX);
            for (partition, replicas) in (first..).zip(assignments) {
                even(replicas.len(), factor)?;
                can_be_kept(image, (partition, replicas), limits)?;
                runs.push(replicas.clone());
            }
        }
        None => {
            let stripe = Stripe::new(image, topic.id, factor, limits)?;
            let first = current as u64;
            (first..first + u64::from(added))
                .for_each(|number| runs.push(stripe.replicas(number).to_vec()));
        }
    }
    let added = runs.0;
    let expected_count = u32::try_from(current).map_err(|_| PlacementError::TooManyPartitions)?;
    Ok(CreatePartitions { topic: topic.id, expected_count, added })
}

fn striped(
    image: &MetadataImage,
    request: &TopicRequest,
    limits: &Limits,
) -> Result<Vec<PartitionRun>, PlacementError> {
    let several = image.broker_count() > 1;
    let factor = match request.replication_factor {
        // What nobody asked for is no reason to refuse.
        -1 if several => limits.default_replication_factor.min(limits.replication_factor_max),
        -1 => limits.default_replication_factor,
        factor => factor,
    };
    let factor = match usize::try_from(factor) {
        Ok(0) | Err(_) => return Err(PlacementError::NonPositiveFactor),
        Ok(factor) => factor,
    };
    let count = match request.partitions {
        -1 => limits.default_partitions,
        count => count,
    };
    let count = match u32::try_from(count) {
        Ok(0) | Err(_) => return Err(PlacementError::NonPositiveCount),
        Ok(count) => count,
    };
    if count > limits.partitions_max.min(PARTITIONS_PER_TOPIC_MAX) {
        return Err(PlacementError::TooManyPartitions);
    }
    let stripe = Stripe::new(image, request.id, factor, limits)?;
    let mut runs = Runs::default();
    (0..u64::from(count)).for_each(|number| runs.push(stripe.replicas(number).to_vec()));
    Ok(runs.0)
}

fn assigned(
    image: &MetadataImage,
    request: &TopicRequest,
    limits: &Limits,
) -> Result<Vec<PartitionRun>, PlacementError> {
    if request.replication_factor != -1 {
        return Err(PlacementError::FactorWithAssignment);
    }
    if request.partitions != -1 {
        return Err(PlacementError::CountWithAssignment);
    }
    if request.assignments.len() > limits.partitions_max.min(PARTITIONS_PER_TOPIC_MAX) as usize {
        return Err(PlacementError::TooManyPartitions);
    }
    let mut by_number = BTreeMap::new();
    let mut expected = None;
    for Assignment { partition, replicas } in &request.assignments {
        if by_number.insert(*partition, replicas).is_some() {
            return Err(PlacementError::DuplicateAssignment(*partition));
        }
        if replicas.is_empty() {
            return Err(InvalidReplicas::Empty.into());
        }
        even(replicas.len(), *expected.get_or_insert(replicas.len()))?;
    }
    if by_number.keys().zip(0..).any(|(number, expected)| *number != expected) {
        return Err(PlacementError::AssignmentGap);
    }
    let mut runs = Runs::default();
    for (number, replicas) in by_number {
        can_be_kept(image, (number, replicas), limits)?;
        runs.push(replicas.clone());
    }
    Ok(runs.0)
}

/// Whether the brokers of an assignment can keep a partition; whether it names each once and only
/// those that exist, `apply` says.
fn can_be_kept(
    image: &MetadataImage,
    (partition, replicas): (i32, &[BrokerId]),
    limits: &Limits,
) -> Result<(), PlacementError> {
    let all_known = replicas.iter().all(|id| image.broker(*id).is_some());
    let distinct: BTreeSet<&BrokerId> = replicas.iter().collect();
    if !all_known || distinct.len() < replicas.len() {
        return Ok(());
    }
    if replicas.len() > usize::try_from(limits.replication_factor_max).unwrap_or(0) {
        let (factor, max) = (replicas.len(), limits.replication_factor_max);
        return Err(PlacementError::NotReplicated { factor, max });
    }
    if !replicas.is_empty() && replicas.iter().all(|id| !image.is_alive(*id)) {
        return Err(PlacementError::AllFenced(partition));
    }
    Ok(())
}

fn even(count: usize, expected: usize) -> Result<(), PlacementError> {
    if count == expected {
        Ok(())
    } else {
        Err(PlacementError::UnevenAssignment { count, expected })
    }
}

/// The replication factor that a topic was created with.
fn replication_factor(image: &MetadataImage, topic: &TopicImage) -> usize {
    let shard = topic.partitions.first().and_then(|partition| image.shard(partition.shard));
    shard.map_or(1, |shard| shard.replicas().len())
}

/// Replica lists, equal neighbours told once.
#[derive(Default)]
struct Runs(Vec<PartitionRun>);

impl Runs {
    fn push(&mut self, replicas: Vec<BrokerId>) {
        match self.0.last_mut() {
            Some(run) if run.replicas == replicas => run.count += 1,
            _ => self.0.push(PartitionRun { count: 1, replicas }),
        }
    }
}

#[cfg(test)]
mod tests;
