//! Levels of the broker's loggers. They hold until the process ends, as in Kafka.

use super::{Broker, Entry, Operation, Refusal, Resource, invalid_config, invalid_request};
use crate::api::config_change::of_this_broker;
use crate::loggers::{LEVEL_NAMES, Level, Loggers, ROOT};

pub(super) fn alter(
    broker: &Broker,
    resource: &Resource,
    validate_only: bool,
) -> Result<(), Refusal> {
    of_this_broker(broker, &resource.name)?;
    let changes: Vec<_> = resource.entries.iter().map(change).collect::<Result<_, _>>()?;
    if !validate_only {
        for (name, level) in &changes {
            tracing::info!(
                level = level.map(Level::name),
                "the level of logger {name} was changed"
            );
        }
        broker.loggers.change(changes);
    }
    Ok(())
}

fn change(entry: &Entry) -> Result<(&'static str, Option<Level>), Refusal> {
    match entry.operation {
        Operation::Set => {
            let name = known(&entry.key)?;
            let given = entry.value.as_deref().unwrap_or_default();
            let level = Level::of_name(given).ok_or_else(|| {
                invalid_config(format!(
                    "Cannot set the log level of {name} to {given} as it is not a supported log \
                     level. Valid log levels are {LEVEL_NAMES}"
                ))
            })?;
            Ok((name, Some(level)))
        }
        Operation::Delete => match known(&entry.key)? {
            ROOT => {
                let why = "Removing the log level of the root logger is not allowed";
                Err(invalid_request(why))
            }
            name => Ok((name, None)),
        },
        Operation::Append | Operation::Subtract => Err(invalid_request(format!(
            "{} operation is not allowed for the BROKER_LOGGER resource",
            entry.operation.name()
        ))),
    }
}

fn known(name: &str) -> Result<&'static str, Refusal> {
    Loggers::find(name).ok_or_else(|| {
        let names: Vec<&str> = Loggers::names().collect();
        invalid_config(format!(
            "Logger {name} does not exist! Braid's loggers are {}.",
            names.join(", ")
        ))
    })
}
