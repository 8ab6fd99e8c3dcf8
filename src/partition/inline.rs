//! A log without threads, for a simulation: one task does what its threads would do.

use std::time::Duration;

use crate::store::Driver;

/// How long what was put off waits.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Serves a log without threads until it ends.
pub(crate) async fn serve_inline(driver: Driver) {
    loop {
        let Ok(again) = driver.run() else { return };
        let pause = async {
            if again {
                tokio::time::sleep(RETRY_AFTER).await;
            } else {
                std::future::pending().await
            }
        };
        tokio::select! {
            () = driver.work() => {}
            () = pause => {}
        }
    }
}
