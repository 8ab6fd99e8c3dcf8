//! Tables of `docs/native-api.md`, written from the code.

use std::fmt::Write as _;

use super::problem::Code;
use super::routes::document;
use crate::golden;

const DOCUMENT: &str = "docs/native-api.md";

/// The document with what lies between two marks replaced.
fn with(text: &str, mark: &str, table: &str) -> String {
    let (start, end) = (format!("<!-- {mark}:start -->\n"), format!("<!-- {mark}:end -->"));
    let (before, rest) = text.split_once(&start).unwrap();
    let (_, after) = rest.split_once(&end).unwrap();
    format!("{before}{start}\n{table}\n{end}{after}")
}

fn errors() -> String {
    let mut table = "| code | status | what to do |\n|---|--:|---|\n".to_owned();
    for (code, name) in Code::ALL {
        let _ = writeln!(table, "| {name} | {} | {} |", code.status().as_u16(), code.hint());
    }
    table
}

fn routes() -> String {
    let document = serde_json::to_value(document()).unwrap();
    let mut table = "| | | |\n|---|---|---|\n".to_owned();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let summary = operation["summary"].as_str().unwrap();
            let _ = writeln!(table, "| {} | `{path}` | {summary} |", method.to_uppercase());
        }
    }
    table
}

#[test]
fn the_document_lists_every_error_and_every_route() {
    let text = golden::read(DOCUMENT);
    let text = with(&text, "errors", &errors());
    golden::check(DOCUMENT, &with(&text, "routes", &routes()));
}
