//! Structure that neither the compiler nor clippy can hold, as tables read by `cargo test tidy`.
//!
//! [`floors`] says which module may use which; [`walls`] says which words may stand where. Both
//! look at text with comments and strings taken out ([`source`]), so they are cheap and can be
//! outwitted on purpose; they are there for accidents. A failure names file, line, rule and
//! reason. To change a rule, change its row: the reason is part of the row.

mod floors;
mod source;
mod walls;

use std::fmt;

use source::Source;

/// One place where a rule is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Breach {
    path: String,
    line: usize,
    rule: &'static str,
    what: String,
    why: &'static str,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, rule, what, why } = self;
        write!(f, "{path}:{line}: [{rule}] {what}\n    why: {why}")
    }
}

fn breaches(sources: &[Source]) -> Vec<Breach> {
    let floors = sources.iter().flat_map(|source| floors::check(source, sources));
    let walls = sources.iter().flat_map(walls::check);
    let mut breaches: Vec<Breach> = floors.chain(walls).collect();
    breaches.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    breaches.dedup();
    breaches
}

#[test]
fn the_tree_is_tidy() {
    let sources = source::tree();
    assert!(sources.iter().any(|source| source.path == "src/lib.rs"), "the tree is not read");
    let breaches = breaches(&sources);
    let listed: Vec<String> = breaches.iter().map(ToString::to_string).collect();
    assert!(breaches.is_empty(), "{} breaches\n{}\n", breaches.len(), listed.join("\n"));
}
