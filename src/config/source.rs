//! Where settings come from: the command line over the environment over a file.
//!
//! The process's arguments and environment are handed in; only the file is read here, through
//! [`Fs`], with Java's rules for `.properties` (comments, continued lines, escapes, `=`, `:` or a
//! blank between key and value).

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use braid_base::env::Fs;
use java_properties::{LineContent, PropertiesError, PropertiesIter};

/// What the user has given, unread.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The properties file, if one was named.
    pub file: Option<PathBuf>,
    /// The whole environment of the process; what does not concern the broker is passed over.
    pub environment: Vec<(String, String)>,
    /// `-X key=value` in order; a later one wins.
    pub overrides: Vec<(String, String)>,
}

/// Where one setting stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// An argument.
    CommandLine,
    /// The environment variable of this name.
    Environment(String),
    /// A line of the file, counted from 1.
    File {
        /// The file as it was named.
        path: PathBuf,
        /// The first line of the setting.
        line: usize,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommandLine => f.write_str("on the command line"),
            Self::Environment(name) => write!(f, "by the environment variable {name}"),
            Self::File { path, line } => write!(f, "in {}:{line}", path.display()),
        }
    }
}

/// A key and its text, not yet looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) name: String,
    pub(super) text: String,
    pub(super) origin: Origin,
}

/// Why the file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file system refuses.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file as it was named.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// The content is no properties file.
    #[error("cannot read {}: {source}", path.display())]
    Syntax {
        /// The file as it was named.
        path: PathBuf,
        /// What is wrong, with the line.
        source: PropertiesError,
    },
}

/// Reads the settings of a properties file in order.
pub(super) fn read(path: &Path, fs: &dyn Fs) -> Result<Vec<Given>, FileError> {
    let read = fs.read_all(path);
    let bytes = read.map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    parse(path, bytes).map_err(|source| FileError::Syntax { path: path.to_owned(), source })
}

fn parse(path: &Path, bytes: Vec<u8>) -> Result<Vec<Given>, PropertiesError> {
    // The reader takes the marks of UTF-16 at the beginning for what they are, and breaks.
    let mut bytes = String::from_utf8_lossy(&bytes).into_owned().into_bytes();
    // The reader loses a last line that ends in a backslash without a line end.
    bytes.push(b'\n');
    let mut settings = Vec::new();
    for line in PropertiesIter::new_with_encoding(bytes.as_slice(), encoding_rs::UTF_8) {
        let line = line?;
        let origin = Origin::File { path: path.to_owned(), line: line.line_number() };
        match line.consume_content() {
            LineContent::Comment(_) => {}
            LineContent::KVPair(name, text) => settings.push(Given { name, text, origin }),
        }
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_marks_of_utf_16_break_nothing() {
        for mark in [[0xFF, 0xFE], [0xFE, 0xFF]] {
            let _read = parse(Path::new("x"), [&mark[..], &[0; 21]].concat());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _read = parse(Path::new("x"), bytes);
        }

        #[test]
        fn any_lines_of_the_format_are_read_or_refused(text in r"([a-z\\=: #!\t\r\n\fu0-9]{0,8}\n){0,6}") {
            let _read = parse(Path::new("x"), text.into_bytes());
        }

        #[test]
        fn plain_settings_come_back_with_their_lines(
            settings in proptest::collection::vec(("[a-z.]{1,12}", "[a-z0-9/]{0,12}"), 0..20),
        ) {
            let text: String =
                settings.iter().map(|(name, text)| format!("# doc\n{name} = {text}\n")).collect();
            let read = parse(Path::new("x"), text.into_bytes()).unwrap();
            let expected: Vec<Given> = settings
                .into_iter()
                .enumerate()
                .map(|(index, (name, text))| {
                    let origin = Origin::File { path: "x".into(), line: 2 * index + 2 };
                    Given { name, text, origin }
                })
                .collect();
            prop_assert_eq!(read, expected);
        }
    }
}
