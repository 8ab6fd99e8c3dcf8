//! kafka-cluster, kafka-features, kafka-metadata-quorum and kafka-broker-api-versions.

use anyhow::{Result, ensure};
use braid_compat_tests::programs::Program;
use braid_compat_tests::runner::{Suite, World};
use braid_compat_tests::tools::{Said, broker_id, refused, run, run_plain, try_run};

pub(crate) fn add(suite: &mut Suite) {
    suite.add("cluster::tells_of_itself", told);
}

fn told(world: &World) -> Result<()> {
    let server = world.server()?;
    let bootstrap = server.bootstrap();
    let id = broker_id(server)?;
    // Its options belong to the verbs.
    let cluster = |arguments: &[&str]| -> Result<Said> {
        run_plain("ClusterTool", &[arguments, &["--bootstrap-server", &bootstrap]].concat(), "")
    };
    let said = cluster(&["cluster-id"])?;
    let cluster_id = said.out.trim().strip_prefix("Cluster ID: ").unwrap_or_default().to_owned();
    ensure!((22..24).contains(&cluster_id.len()), "{said:?}");
    let port = bootstrap.rsplit(':').next().unwrap_or_default();
    let endpoint = [&id, "127.0.0.1", port, "null", "unfenced", "broker"];
    for more in [&[][..], &["--include-fenced-brokers"]] {
        let said = cluster(&[&["list-endpoints"], more].concat())?;
        ensure!(said.rows().get(1).is_some_and(|row| row[..] == endpoint), "{said:?}");
    }
    let said = cluster(&["unregister", "--id", "4711"])?;
    ensure!(said.status != 0, "{said:?}");
    said.has(&["BrokerIdNotRegisteredException: Broker ID 4711 is not currently registered"])?;

    let features = |arguments: &[&str]| run(server, "FeatureCommand", arguments, "");
    let said = features(&["describe"])?;
    let rows = said.rows();
    let version = rows.iter().find(|row| row.get(1) == Some(&"metadata.version"));
    // Minimum, maximum and level, each behind its name.
    ensure!(version.is_some_and(|row| row[3] == row[7] && row[5] == row[7]), "{said:?}");
    features(&["version-mapping"])?.has(&["metadata.version="])?;
    let unknown = "The update failed for all features since the following feature had an error: Invalid update version 1 for \
                   feature nope.";
    refused(server, "FeatureCommand", &["upgrade", "--feature", "nope=1"], &[unknown])?;

    let level = version.map(|row| row[7].to_owned()).unwrap_or_default();
    let down = ["downgrade", "--feature", "metadata.version=20"];
    let said = try_run(server, "FeatureCommand", &down, "")?;
    ensure!(said.status != 0, "{said:?}");
    said.has(&[
        "Could not downgrade metadata.version to 20. The update failed for all features since",
    ])?;
    for more in [&[][..], &["--dry-run"]] {
        let release = [&["downgrade", "--release-version", "4.0"], more].concat();
        let said = try_run(server, "FeatureCommand", &release, "")?;
        ensure!(said.status != 0, "{said:?}");
        said.has(&["downgrade metadata.version to 25. The update failed for all features since"])?;
    }
    let said = features(&["describe"])?;
    let rows = said.rows();
    let kept = rows.iter().find(|row| row.get(1) == Some(&"metadata.version"));
    ensure!(kept.is_some_and(|row| row[7] == level), "{said:?}");

    let quorum = |arguments: &[&str]| run(server, "MetadataQuorumCommand", arguments, "");
    let said = quorum(&["describe", "--status"])?;
    said.has(&[&cluster_id, "MaxFollowerLag:         0", "CurrentObservers:       []"])?;
    ensure!(said.rows().iter().any(|row| row[..] == ["LeaderId:", &id]), "{said:?}");
    for more in [&[][..], &["--human-readable"]] {
        let said = quorum(&[&["describe", "--replication"], more].concat())?;
        let row = said.rows().get(1).cloned().unwrap_or_default();
        ensure!(row.first() == Some(&id.as_str()) && row.last() == Some(&"Leader"), "{said:?}");
        ensure!(row.get(3) == Some(&"0"), "the leader lags behind itself: {said:?}");
    }

    let said = run(server, "BrokerApiVersionsCommand", &[], "")?;
    said.has(&[
        "Produce(0): 0 to 13 [usable: 13]",
        "Fetch(1): 4 to 18 [usable: 18]",
        "Metadata(3): 0 to 13",
    ])?;
    said.has(&[&format!("{bootstrap} (id: {id} rack: null isFenced: false)")])?;
    world.ran(Program::Cluster, 15);
    Ok(())
}
