//! What docs/compatibility.md says of the served APIs is what the broker serves from.
//! `UPDATE=1 cargo test` renews it.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

use std::path::Path;

const START: &str = "<!-- api-table:start -->\n";
const END: &str = "<!-- api-table:end -->";

#[test]
fn the_table_of_apis_is_the_one_that_is_served() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/compatibility.md");
    let found = std::fs::read_to_string(&path).unwrap();
    let start = found.find(START).unwrap() + START.len();
    let end = start + found[start..].find(END).unwrap();
    let expected = format!("\n{}\n", braid_protocol::api::markdown());
    if found[start..end] == expected {
        return;
    }
    assert!(
        std::env::var_os("UPDATE").is_some(),
        "docs/compatibility.md is out of date: `UPDATE=1 cargo test` renews it"
    );
    std::fs::write(&path, [&found[..start], &expected, &found[end..]].concat()).unwrap();
}
