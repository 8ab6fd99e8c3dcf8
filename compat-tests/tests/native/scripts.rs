//! Consumers without partitions, retries and dead letters: scripts that use the native API as anyone may, and say by their
//! exit code whether what they saw is right.

use std::process::Command;

use anyhow::Result;
use braid_compat_tests::install;
use braid_compat_tests::runner::{Suite, World};

pub(crate) fn add(suite: &mut Suite) {
    suite.add(
        "native::a_poison_message_is_retried_by_the_table_and_becomes_one_dead_letter",
        |world| script(world, "poison.py"),
    );
    suite.add("native::consumers_that_come_and_go_share_evenly", |world| {
        script(world, "sharing.py")
    });
    suite
        .add("native::a_stuck_message_group_blocks_only_itself", |world| script(world, "stuck.py"));
}

fn script(world: &World, name: &str) -> Result<()> {
    let path = install::package_dir().join("clients/native").join(name);
    let mut command = Command::new(install::python()?);
    let said = install::run(command.arg(path).arg(world.server()?.native()))?;
    print!("{said}");
    Ok(())
}
