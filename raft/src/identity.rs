//! Whose directory this is: the cluster, the node, and a random mark of the directory itself.
//! Written once, last, when the directory is fully formed; a directory whose mark is there but
//! whose log is not has lost data and must not start afresh under the same node id.
//!
//! A directory that waits for its cluster to be formed has a [`Candidate`] file instead: its mark is
//! fixed before anybody is told of it, so that an emptied directory is another directory to the
//! others. The identity of a cluster's member names the directories of all voters.

use std::io;
use std::path::{Path, PathBuf};

use braid_base::env::fs::Fs;
use braid_base::model::BrokerId;
use uuid::Uuid;

use crate::command::ClusterId;

/// The content of the identity file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) cluster_id: ClusterId,
    pub(crate) node_id: BrokerId,
    pub(crate) directory_id: Uuid,
    /// The directories that formed the quorum, by node; none for a node alone.
    pub(crate) voters: Vec<(BrokerId, Uuid)>,
    /// Whether it was told of the cluster by a member. Who was not may have to begin it.
    pub(crate) joined: bool,
}

/// The mark of a directory whose cluster is not formed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) node_id: BrokerId,
    pub(crate) directory_id: Uuid,
}

/// Why the identity file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file system refused.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The file lacks a line or has a malformed one.
    #[error("{} is damaged: {key} is missing or malformed", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The key in question.
        key: &'static str,
    },
}

/// The lines of a file, if it is there.
struct Lines {
    path: PathBuf,
    text: String,
}

impl Lines {
    fn read(fs: &dyn Fs, path: PathBuf) -> Result<Option<Self>, IdentityError> {
        let io = |source| IdentityError::Io { operation: "read", path: path.clone(), source };
        if fs.size(&path).map_err(io)?.is_none() {
            return Ok(None);
        }
        let bytes = fs.read_all(&path).map_err(io)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(Some(Self { path, text }))
    }

    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.text.lines().filter_map(|line| line.split_once('='))
    }

    fn value(&self, key: &'static str) -> Result<&str, IdentityError> {
        let mut values = self.pairs().filter(|(name, _)| *name == key).map(|(_, value)| value);
        values.next().ok_or_else(|| self.malformed(key))
    }

    fn number(&self, key: &'static str) -> Result<BrokerId, IdentityError> {
        self.value(key)?.parse().map(BrokerId).map_err(|_| self.malformed(key))
    }

    fn uuid(&self, key: &'static str) -> Result<Uuid, IdentityError> {
        self.value(key)?.parse().map_err(|_| self.malformed(key))
    }

    /// Lines `voter.NODE=DIRECTORY`, by node.
    fn voters(&self) -> Result<Vec<(BrokerId, Uuid)>, IdentityError> {
        let malformed = || self.malformed("voter");
        let lines =
            self.pairs().filter_map(|(name, value)| Some((name.strip_prefix("voter.")?, value)));
        let voters: Result<Vec<_>, _> = lines
            .map(|(node, directory)| {
                let node = node.parse().map(BrokerId).map_err(|_| malformed())?;
                Ok((node, directory.parse().map_err(|_| malformed())?))
            })
            .collect();
        let mut voters = voters?;
        voters.sort_unstable();
        Ok(voters)
    }

    fn malformed(&self, key: &'static str) -> IdentityError {
        IdentityError::Malformed { path: self.path.clone(), key }
    }
}

/// Writes a file whole; it is on disk when this returns.
fn write(fs: &dyn Fs, path: PathBuf, text: &str) -> Result<(), IdentityError> {
    let written = fs.replace(&path, text.as_bytes());
    written.map_err(|source| IdentityError::Io { operation: "write", path, source })
}

impl Identity {
    /// Reads the identity of a directory; none when it is not fully formed yet.
    pub(crate) fn read(fs: &dyn Fs, dir: &Path) -> Result<Option<Self>, IdentityError> {
        let Some(lines) = Lines::read(fs, dir.join("identity"))? else { return Ok(None) };
        Ok(Some(Self {
            cluster_id: ClusterId::new(lines.value("cluster.id")?),
            node_id: lines.number("node.id")?,
            directory_id: lines.uuid("directory.id")?,
            voters: lines.voters()?,
            joined: lines.pairs().any(|pair| pair == ("joined", "true")),
        }))
    }

    /// Writes the identity of a directory; it is on disk when this returns.
    pub(crate) fn write(&self, fs: &dyn Fs, dir: &Path) -> Result<(), IdentityError> {
        let mut text = format!(
            "version=1\ncluster.id={}\nnode.id={}\ndirectory.id={}\n",
            self.cluster_id, self.node_id, self.directory_id
        );
        for (node, directory) in &self.voters {
            text += &format!("voter.{node}={directory}\n");
        }
        if self.joined {
            text += "joined=true\n";
        }
        write(fs, dir.join("identity"), &text)
    }

    /// The directory by which the cluster knows a voter.
    pub(crate) fn directory_of(&self, voter: BrokerId) -> Option<Uuid> {
        self.voters.iter().find(|(node, _)| *node == voter).map(|(_, directory)| *directory)
    }
}

impl Candidate {
    /// The mark of a directory; none when it never had one.
    pub(crate) fn read(fs: &dyn Fs, dir: &Path) -> Result<Option<Self>, IdentityError> {
        let Some(lines) = Lines::read(fs, dir.join("candidate"))? else { return Ok(None) };
        let (node_id, directory_id) = (lines.number("node.id")?, lines.uuid("directory.id")?);
        Ok(Some(Self { node_id, directory_id }))
    }

    /// Takes the mark away from a directory that has an identity.
    pub(crate) fn remove(fs: &dyn Fs, dir: &Path) -> Result<(), IdentityError> {
        let path = dir.join("candidate");
        let io = |source| IdentityError::Io { operation: "remove", path: path.clone(), source };
        match fs.size(&path).map_err(io)? {
            Some(_) => fs.remove(&path).and_then(|()| fs.sync_dir(dir)).map_err(io),
            None => Ok(()),
        }
    }

    /// Marks a directory; it is on disk when this returns.
    pub(crate) fn write(&self, fs: &dyn Fs, dir: &Path) -> Result<(), IdentityError> {
        let Self { node_id, directory_id } = self;
        let text = format!("version=1\nnode.id={node_id}\ndirectory.id={directory_id}\n");
        write(fs, dir.join("candidate"), &text)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use braid_base::env::real::RealFs;

    use super::*;

    fn identity() -> Identity {
        Identity {
            cluster_id: ClusterId::new("MkU3OEVBNTcwNTJENDM2Qg"),
            node_id: BrokerId(3),
            directory_id: Uuid::from_u128(7),
            voters: Vec::new(),
            joined: false,
        }
    }

    #[test]
    fn a_member_names_the_directories_of_all_voters() {
        let dir = tempfile::tempdir().unwrap();
        let voters = vec![(BrokerId(3), Uuid::from_u128(7)), (BrokerId(12), Uuid::from_u128(8))];
        let member = Identity { voters, joined: true, ..identity() };
        member.write(&RealFs, dir.path()).unwrap();
        assert_eq!(Identity::read(&RealFs, dir.path()).unwrap().as_ref(), Some(&member));
        assert_eq!(member.directory_of(BrokerId(12)), Some(Uuid::from_u128(8)));
        assert_eq!(member.directory_of(BrokerId(4)), None);
        RealFs.replace(&dir.path().join("identity"), b"cluster.id=x\nnode.id=1\ndirectory.id=00000000-0000-0000-0000-000000000007\nvoter.1=no\n").unwrap();
        let error = Identity::read(&RealFs, dir.path()).unwrap_err();
        assert!(matches!(error, IdentityError::Malformed { key: "voter", .. }), "{error}");
    }

    #[test]
    fn a_candidate_survives_its_file() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Candidate::read(&RealFs, dir.path()).unwrap(), None);
        let candidate = Candidate { node_id: BrokerId(3), directory_id: Uuid::from_u128(7) };
        candidate.write(&RealFs, dir.path()).unwrap();
        assert_eq!(Candidate::read(&RealFs, dir.path()).unwrap(), Some(candidate));
    }

    #[test]
    fn an_identity_survives_its_file() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Identity::read(&RealFs, dir.path()).unwrap(), None);
        identity().write(&RealFs, dir.path()).unwrap();
        assert_eq!(Identity::read(&RealFs, dir.path()).unwrap(), Some(identity()));
    }

    #[test]
    fn the_file_is_text_that_people_can_read() {
        let dir = tempfile::tempdir().unwrap();
        identity().write(&RealFs, dir.path()).unwrap();
        let bytes = RealFs.read_all(&dir.path().join("identity")).unwrap();
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            "version=1\ncluster.id=MkU3OEVBNTcwNTJENDM2Qg\nnode.id=3\n\
             directory.id=00000000-0000-0000-0000-000000000007\n"
        );
    }

    #[test]
    fn a_missing_line_is_named() {
        let dir = tempfile::tempdir().unwrap();
        RealFs.replace(&dir.path().join("identity"), b"cluster.id=x\nnode.id=no\n").unwrap();
        let error = Identity::read(&RealFs, dir.path()).unwrap_err();
        let wanted: PathBuf = dir.path().join("identity");
        assert!(
            matches!(&error, IdentityError::Malformed { path, key: "node.id" } if *path == wanted),
            "{error}"
        );
    }
}
