//! How many connections the system's limit of open files leaves room for.

use crate::config::Config;

/// One descriptor in so many is kept for files, and not fewer than these.
const FILES_SHARE: u64 = 4;
const FILES_MIN: u64 = 64;

/// Lowers `max.connections` to what `descriptors` (`None`: without limit) allow, and says so: a
/// broker that runs out of descriptors can neither accept nor open a file.
pub fn fit_connections(config: &mut Config, descriptors: Option<u64>) {
    let Some(descriptors) = descriptors else { return };
    let room = descriptors.saturating_sub((descriptors / FILES_SHARE).max(FILES_MIN)).max(1);
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    let wanted = config.network.connections_max;
    if room < wanted {
        tracing::warn!(
            "the system allows this process {descriptors} open files: at most {room} connections \
             are served, not the {wanted} of max.connections; raise the limit (ulimit -n, \
             LimitNOFILE=) or lower max.connections"
        );
        config.bound_connections(room);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_a_quarter_of_the_descriptors_to_files() {
        let mut config = Config::of(&[("max.connections", "10000")]).unwrap();
        let cases = [
            (None, 10_000),
            (Some(20_000), 10_000),
            (Some(1_024), 768),
            (Some(100), 36),
            (Some(9), 1),
        ];
        for (descriptors, left) in cases {
            fit_connections(&mut config, descriptors);
            assert_eq!(config.network.connections_max, left, "{descriptors:?}");
        }
    }
}
