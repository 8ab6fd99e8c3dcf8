//! Contexts: names for clusters, one of them current, in a file of the user's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Subcommand;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Failure;
use super::output::{Column, Printer};
use crate::env::{Env, Fs};

/// Where a broker's native API is without configuration.
const LOCAL: &str = "http://127.0.0.1:8081";

/// What there is to do with contexts.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the contexts
    List,
    /// Add a context, or change its address
    #[command(after_help = "Example:\n  braid context add staging http://10.0.0.7:8081")]
    Add {
        /// Its name
        name: String,
        /// Address of the native API of one of its brokers
        api: String,
    },
    /// Make a context the current one
    Use {
        /// Its name
        name: String,
    },
    /// Forget a context
    Remove {
        /// Its name
        name: String,
    },
}

/// The file's content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    current: Option<String>,
    contexts: BTreeMap<String, String>,
}

/// The contexts of the user.
#[derive(Debug)]
pub(super) struct Contexts {
    fs: Arc<dyn Fs>,
    file: Option<PathBuf>,
    stored: Stored,
}

impl Contexts {
    /// Reads the user's file; without one there are none.
    pub(super) fn read(env: &Env) -> Result<Self, Failure> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let dir = set("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(|| set("HOME").map(|home| Path::new(&home).join(".config")));
        let file = dir.map(|dir| dir.join("braid").join("contexts.json"));
        Self::read_file(Arc::clone(&env.fs), file)
    }

    fn read_file(fs: Arc<dyn Fs>, file: Option<PathBuf>) -> Result<Self, Failure> {
        let mut stored = Stored::default();
        if let Some(path) = &file
            && fs.size(path).is_ok_and(|size| size.is_some())
        {
            let unreadable = |why: String| {
                let message = format!("cannot read {}: {why}", path.display());
                Failure::new(message, "mend or remove the file; braid context add makes a new one")
            };
            let bytes = fs.read_all(path).map_err(|error| unreadable(error.to_string()))?;
            stored =
                serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))?;
        }
        Ok(Self { fs, file, stored })
    }

    /// The address meant by what was said on the command line.
    pub(super) fn address(
        &self,
        api: Option<&str>,
        context: Option<&str>,
    ) -> Result<String, Failure> {
        match (api, context.or(self.stored.current.as_deref())) {
            (_, Some(name)) if context.is_some() || api.is_none() => {
                self.stored.contexts.get(name).cloned().ok_or_else(|| unknown(name))
            }
            (Some(api), _) => Ok(api.to_owned()),
            (None, _) => Ok(LOCAL.to_owned()),
        }
    }

    fn write(&self) -> Result<(), Failure> {
        let Some(file) = &self.file else {
            let hint = "set HOME or XDG_CONFIG_HOME";
            return Err(Failure::new("there is no place to keep contexts in", hint));
        };
        let text = match serde_json::to_vec_pretty(&self.stored) {
            Ok(text) => text,
            Err(error) => unreachable!("a map of plain texts: {error}"),
        };
        let made = file.parent().map_or(Ok(()), |dir| self.fs.create_dir_all(dir));
        made.and_then(|()| self.fs.replace(file, &text)).map_err(|error| {
            let message = format!("cannot write {}: {error}", file.display());
            Failure::new(message, "contexts are kept there; --api needs none")
        })
    }
}

fn unknown(name: &str) -> Failure {
    Failure::new(
        format!("there is no context {name}"),
        "braid context list shows those there are; braid context add NAME URL adds one",
    )
}

pub(super) fn run(
    command: &Command,
    contexts: &mut Contexts,
    printer: &mut Printer,
) -> Result<(), Failure> {
    let Stored { current, contexts: known } = &mut contexts.stored;
    let said = match command {
        Command::List => {
            let row = |(name, api): (&String, &String)| {
                let is_current = current.as_ref() == Some(name);
                json!({"name": name, "api": api, "current": if is_current { "*" } else { "" }})
            };
            let rows = json!(known.iter().map(row).collect::<Vec<_>>());
            let columns = [Column("", "current"), Column("NAME", "name"), Column("API", "api")];
            return printer.rows(&rows, &columns);
        }
        Command::Add { name, api } => {
            super::api::Api::new(api)?;
            known.insert(name.clone(), api.clone());
            current.get_or_insert_with(|| name.clone());
            format!("context {name} is {api}")
        }
        Command::Use { name } => {
            if !known.contains_key(name) {
                return Err(unknown(name));
            }
            *current = Some(name.clone());
            format!("{name} is the current context")
        }
        Command::Remove { name } => {
            known.remove(name).ok_or_else(|| unknown(name))?;
            if current.as_ref() == Some(name) {
                *current = None;
            }
            format!("context {name} is forgotten")
        }
    };
    contexts.write()?;
    printer.done(&said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::sim::SimFs;

    fn contexts(fs: &SimFs) -> Contexts {
        let file = Path::new("/data/braid/contexts.json").to_owned();
        Contexts::read_file(Arc::new(fs.clone()), Some(file)).unwrap()
    }

    fn ask(fs: &SimFs, command: &Command) -> Result<String, Failure> {
        let (mut printer, said) = Printer::into_memory();
        run(command, &mut contexts(fs), &mut printer)?;
        Ok(said.take())
    }

    fn add(name: &str, api: &str) -> Command {
        Command::Add { name: name.to_owned(), api: api.to_owned() }
    }

    #[test]
    fn what_is_said_on_the_command_line_wins_over_the_current_context() {
        let fs = SimFs::new(1);
        assert_eq!(contexts(&fs).address(None, None).unwrap(), LOCAL);
        ask(&fs, &add("a", "http://a:1")).unwrap();
        ask(&fs, &add("b", "http://b:1")).unwrap();
        assert_eq!(contexts(&fs).address(None, None).unwrap(), "http://a:1");
        assert_eq!(contexts(&fs).address(Some("http://c:1"), None).unwrap(), "http://c:1");
        assert_eq!(contexts(&fs).address(Some("http://c:1"), Some("b")).unwrap(), "http://b:1");
        assert!(contexts(&fs).address(None, Some("z")).is_err());
        ask(&fs, &Command::Use { name: "b".to_owned() }).unwrap();
        assert_eq!(contexts(&fs).address(None, None).unwrap(), "http://b:1");
        ask(&fs, &Command::Remove { name: "b".to_owned() }).unwrap();
        assert_eq!(contexts(&fs).address(None, None).unwrap(), LOCAL);
        assert!(ask(&fs, &Command::Use { name: "b".to_owned() }).is_err());
    }

    #[test]
    fn a_list_marks_the_current_one() {
        let fs = SimFs::new(1);
        ask(&fs, &add("a", "http://a:1")).unwrap();
        ask(&fs, &add("b", "http://b:1")).unwrap();
        let listed = ask(&fs, &Command::List).unwrap();
        let lines: Vec<&str> = listed.lines().map(str::trim_end).collect();
        assert_eq!(lines, ["   NAME  API", "*  a     http://a:1", "   b     http://b:1"]);
        assert!(ask(&fs, &add("c", "c:1")).is_err());
    }
}
