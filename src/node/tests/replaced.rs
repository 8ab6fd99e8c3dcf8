//! A broker of a cluster loses its disk, and is replaced by one with an empty one.

use serde_json::json;

use super::cluster::{Cluster, LONG, host};
use super::native::http::Http;

#[tokio::test(start_paused = true)]
async fn a_broker_without_its_disk_is_refused_until_an_operator_takes_it_for_a_new_one() {
    let mut cluster = Cluster::start().await;
    cluster.client(1).await.create("t", 3, &[]).await;
    let mut http = Http::connect_to(&cluster.outside, &format!("{}:8081", host(1))).await;
    let nobody = json!({"directory": "00000000-0000-0000-0000-000000000000"});
    let some = json!({"directory": "1b4e28ba-2fa1-11d2-883f-0016d3cca427"});
    for (node, body, status, code) in [
        (3, &some, 409, "NODE_RUNNING"),
        (7, &some, 404, "NODE_NOT_FOUND"),
        (3, &nobody, 422, "INVALID_BODY"),
        (3, &json!({"directory": "x"}), 422, "INVALID_BODY"),
    ] {
        let answer =
            http.post(&format!("/api/v1/cluster/nodes/{node}/replace"), body.clone()).await;
        assert_eq!(answer.error(status), code, "{node} {body}");
    }
    cluster.wipe(3);
    let started = tokio::time::timeout(LONG, cluster.machine(3).try_start()).await.unwrap();
    let refused = started.unwrap_err().to_string();
    let directory = refused.rsplit_once("with directory ").expect(&refused).1.to_owned();
    let body = json!({"directory": directory});
    // Until its quorum has a leader again and no longer hears of it.
    let replaced = async {
        loop {
            let path = "/api/v1/cluster/nodes/3/replace";
            let answer = http.post(path, body.clone()).await;
            if answer.status == 204 {
                return;
            }
            assert!(matches!(answer.status, 409 | 503), "{}", answer.status);
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(LONG, replaced).await.unwrap();
    cluster.machine(3).start().await;
    let led = |topic: &kafka_protocol::messages::metadata_response::MetadataResponseTopic| {
        topic.partitions.len() == 3 && topic.partitions.iter().all(|p| p.error_code == 0)
    };
    cluster.until(3, "t", led).await;
    cluster.client(3).await.create("u", 3, &[]).await;
    assert_eq!(cluster.leaders(1, "u").await.len(), 3);
}
