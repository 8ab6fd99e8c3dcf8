//! Parts of documents that are written from tables of the code, held equal to them by tests.

use crate::golden;

#[test]
fn the_document_lists_the_apis_that_are_served() {
    let text = golden::read("docs/compatibility.md");
    let (start, end) = ("<!-- api-table:start -->\n", "<!-- api-table:end -->");
    let (before, rest) = text.split_once(start).unwrap();
    let (_, after) = rest.split_once(end).unwrap();
    let table = braid_protocol::api::markdown();
    golden::check("docs/compatibility.md", &format!("{before}{start}\n{table}\n{end}{after}"));
}
