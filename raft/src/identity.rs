//! Whose directory this is: the cluster, the node, and a random mark of the directory itself.
//! Written once, last, when the directory is fully formed; a directory whose mark is there but
//! whose log is not has lost data and must not start afresh under the same node id.

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

fn path(dir: &Path) -> PathBuf {
    dir.join("identity")
}

impl Identity {
    /// Reads the identity of a directory; none when it is not fully formed yet.
    pub(crate) fn read(fs: &dyn Fs, dir: &Path) -> Result<Option<Self>, IdentityError> {
        let path = path(dir);
        let io = |source| IdentityError::Io { operation: "read", path: path.clone(), source };
        if fs.size(&path).map_err(io)?.is_none() {
            return Ok(None);
        }
        let bytes = fs.read_all(&path).map_err(io)?;
        let text = String::from_utf8_lossy(&bytes);
        let value = |key: &'static str| {
            let lines = text.lines().filter_map(|line| line.split_once('='));
            let mut values = lines.filter(|(name, _)| *name == key).map(|(_, value)| value);
            values.next().ok_or_else(|| IdentityError::Malformed { path: path.clone(), key })
        };
        let malformed = |key| IdentityError::Malformed { path: path.clone(), key };
        Ok(Some(Self {
            cluster_id: ClusterId::new(value("cluster.id")?),
            node_id: BrokerId(value("node.id")?.parse().map_err(|_| malformed("node.id"))?),
            directory_id: value("directory.id")?.parse().map_err(|_| malformed("directory.id"))?,
        }))
    }

    /// Writes the identity of a directory; it is on disk when this returns.
    pub(crate) fn write(&self, fs: &dyn Fs, dir: &Path) -> Result<(), IdentityError> {
        let path = path(dir);
        let text = format!(
            "version=1\ncluster.id={}\nnode.id={}\ndirectory.id={}\n",
            self.cluster_id, self.node_id, self.directory_id
        );
        fs.replace(&path, text.as_bytes()).map_err(|source| IdentityError::Io {
            operation: "write",
            path,
            source,
        })
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
        }
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
