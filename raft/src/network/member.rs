//! Who this node is to the others of its quorum, and whom of them it has to do with.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use braid_base::env::Rng;
use braid_base::model::BrokerId;
use tokio::sync::watch;
use uuid::Uuid;

use super::session::{ClusterSecret, Introduction, Refusal};
use crate::command::ClusterId;
use crate::identity::Identity;
use crate::image::MetadataImage;

/// This node as a member. Shared by all that speaks for it.
pub(crate) struct Member {
    pub(crate) node_id: BrokerId,
    pub(crate) directory_id: Uuid,
    pub(crate) incarnation: Uuid,
    /// Where the voters listen, this node among them.
    pub(crate) addresses: BTreeMap<BrokerId, String>,
    /// The cluster it must belong to, if the operator says so.
    pub(crate) wanted: Option<ClusterId>,
    pub(crate) secret: ClusterSecret,
    rng: Arc<dyn Rng>,
    /// None until the cluster is formed; then it never changes.
    identity: watch::Sender<Option<Arc<Identity>>>,
    /// Where directories that were replaced since are read.
    images: OnceLock<watch::Receiver<Arc<MetadataImage>>>,
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member").field("node_id", &self.node_id).finish_non_exhaustive()
    }
}

/// What a member is made of.
pub(crate) struct Parts {
    pub(crate) node_id: BrokerId,
    pub(crate) directory_id: Uuid,
    pub(crate) addresses: BTreeMap<BrokerId, String>,
    pub(crate) wanted: Option<ClusterId>,
    pub(crate) secret: ClusterSecret,
    pub(crate) identity: Option<Identity>,
}

impl Member {
    pub(crate) fn new(rng: &Arc<dyn Rng>, parts: Parts) -> Self {
        let Parts { node_id, directory_id, addresses, wanted, secret, identity } = parts;
        Self {
            node_id,
            directory_id,
            incarnation: rng.next_uuid(),
            addresses,
            wanted,
            secret,
            rng: Arc::clone(rng),
            identity: watch::Sender::new(identity.map(Arc::new)),
            images: OnceLock::new(),
        }
    }

    /// From now on it sees whose directories have been replaced. Only the first call counts.
    pub(crate) fn follow(&self, images: watch::Receiver<Arc<MetadataImage>>) {
        drop(self.images.set(images));
    }

    /// The directories that stand for the voters now; none before the cluster is formed.
    pub(crate) fn directories(&self) -> Vec<(BrokerId, Uuid)> {
        let Some(identity) = self.identity() else { return Vec::new() };
        let image = self.images.get().map(|images| Arc::clone(&images.borrow()));
        let replaced = |node: &BrokerId| image.as_ref()?.replaced_directories().get(node).copied();
        let voters = identity.voters.iter();
        voters.map(|(node, formed)| (*node, replaced(node).unwrap_or(*formed))).collect()
    }

    /// Who it is, once its cluster is formed.
    pub(crate) fn identity(&self) -> Option<Arc<Identity>> {
        self.identity.borrow().clone()
    }

    pub(crate) fn become_formed(&self, identity: Identity) {
        self.identity.send_replace(Some(Arc::new(identity)));
    }

    /// Waits until the cluster is formed.
    pub(crate) async fn formed(&self) -> Arc<Identity> {
        let mut identity = self.identity.subscribe();
        loop {
            if let Some(identity) = &*identity.borrow_and_update() {
                return Arc::clone(identity);
            }
            if identity.changed().await.is_err() {
                unreachable!("the sender is this member's own");
            }
        }
    }

    pub(crate) fn voters(&self) -> Vec<BrokerId> {
        self.addresses.keys().copied().collect()
    }

    /// The other voters and where they listen.
    pub(crate) fn others(&self) -> impl Iterator<Item = (BrokerId, &str)> {
        let others = self.addresses.iter().filter(|(id, _)| **id != self.node_id);
        others.map(|(id, address)| (*id, address.as_str()))
    }

    /// How it introduces itself to another.
    pub(crate) fn introduction(&self, target: BrokerId) -> Introduction {
        Introduction {
            cluster_id: self.identity().map(|identity| identity.cluster_id.clone()),
            node_id: self.node_id,
            target,
            directory_id: self.directory_id,
            incarnation: self.incarnation,
            voters: self.voters(),
            nonce: self.rng.next_uuid(),
        }
    }

    /// Whether it has to do with who introduced itself so.
    pub(crate) fn judge(&self, theirs: &Introduction) -> Result<(), Refusal> {
        if theirs.target != self.node_id {
            return Err(Refusal::OtherNode(self.node_id));
        }
        let identity = self.identity();
        let ours = identity.as_ref().map(|identity| &identity.cluster_id).or(self.wanted.as_ref());
        if let (Some(ours), Some(other)) = (ours, &theirs.cluster_id)
            && ours != other
        {
            return Err(Refusal::OtherCluster { ours: ours.clone(), theirs: other.clone() });
        }
        if !self.addresses.contains_key(&theirs.node_id) {
            return Err(Refusal::NoVoter(theirs.node_id));
        }
        let ours = self.voters();
        if ours != theirs.voters {
            return Err(Refusal::OtherVoters { ours, theirs: theirs.voters.clone() });
        }
        let Some(identity) = identity else { return Ok(()) };
        let directories = self.directories();
        let recorded = directories.iter().find(|(node, _)| *node == theirs.node_id);
        match recorded.map(|(_, directory)| *directory) {
            Some(recorded) if recorded == theirs.directory_id => Ok(()),
            Some(recorded) => Err(Refusal::OtherDirectory {
                cluster_id: identity.cluster_id.clone(),
                node_id: theirs.node_id,
                recorded,
                found: theirs.directory_id,
            }),
            None => Err(Refusal::NoVoter(theirs.node_id)),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use braid_base::env::rng::SeededRng;

    use super::*;

    /// Node `id` of three, with a directory of the same number, in the cluster if there is one.
    pub(crate) fn member(id: i32, cluster: Option<&str>) -> Member {
        let directory = |id: i32| Uuid::from_u128(u128::from(id.unsigned_abs()));
        let identity = cluster.map(|cluster| Identity {
            cluster_id: ClusterId::new(cluster),
            node_id: BrokerId(id),
            directory_id: directory(id),
            voters: (1..4).map(|id| (BrokerId(id), directory(id))).collect(),
            joined: false,
        });
        let rng: Arc<dyn Rng> = Arc::new(SeededRng::from_seed(u64::from(id.unsigned_abs())));
        let addresses = (1..4).map(|id| (BrokerId(id), format!("node-{id}:9093"))).collect();
        let parts = Parts {
            node_id: BrokerId(id),
            directory_id: directory(id),
            addresses,
            wanted: None,
            secret: ClusterSecret::new("s"),
            identity,
        };
        Member::new(&rng, parts)
    }

    fn judged(by: &Member, of: &Member, change: impl Fn(&mut Introduction)) -> Option<Refusal> {
        let mut introduction = of.introduction(by.node_id);
        change(&mut introduction);
        by.judge(&introduction).err()
    }

    #[test]
    fn members_of_one_cluster_have_to_do_with_each_other() {
        let same = |_: &mut Introduction| {};
        for (ours, theirs) in [(Some("a"), Some("a")), (Some("a"), None), (None, Some("a"))] {
            assert_eq!(judged(&member(1, ours), &member(2, theirs), same), None);
        }
    }

    #[test]
    fn who_is_another_is_refused() {
        let (ours, theirs) = (member(1, Some("a")), member(2, Some("a")));
        let wiped = judged(&ours, &member(2, None), |it| it.directory_id = Uuid::from_u128(9));
        assert!(wiped.unwrap().to_string().contains("emptied or replaced"));
        let other = judged(&ours, &member(2, Some("b")), |_| {});
        assert_eq!(other.unwrap().to_string(), "it belongs to cluster b, this node to cluster a");
        let misled = judged(&ours, &theirs, |it| it.target = BrokerId(3));
        assert_eq!(misled, Some(Refusal::OtherNode(BrokerId(1))));
        let stranger = judged(&ours, &theirs, |it| it.node_id = BrokerId(7));
        assert_eq!(stranger, Some(Refusal::NoVoter(BrokerId(7))));
        let elsewhere = judged(&ours, &theirs, |it| it.voters.truncate(2));
        assert!(elsewhere.unwrap().to_string().contains("1,2,3 here and 1,2 there"));
    }

    #[test]
    fn an_unformed_node_heeds_the_cluster_that_its_operator_wants() {
        let mut ours = member(1, None);
        ours.wanted = Some(ClusterId::new("b"));
        let refused = judged(&ours, &member(2, Some("a")), |_| {});
        assert!(matches!(refused, Some(Refusal::OtherCluster { .. })));
    }
}
