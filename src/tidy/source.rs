//! The tracked text files, with their Rust code told apart from comments, strings and tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// One text file of the tree.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// From the root, with `/`.
    pub(super) path: String,
    pub(super) lines: Vec<String>,
    /// The lines of a Rust file without comments and the content of strings; else empty.
    pub(super) code: Vec<String>,
    /// Index of the first line of test code; `usize::MAX` when there is none.
    tests_from: usize,
}

impl Source {
    pub(super) fn new(path: &str, text: &str) -> Self {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let is_rust = path.ends_with(".rs");
        let code = if is_rust { code_of(text) } else { Vec::new() };
        let tests_from = if is_test_path(path) { 0 } else { test_module_line(&code) };
        Self { path: path.to_owned(), lines, code, tests_from }
    }

    pub(super) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    pub(super) fn is_test(&self, line_index: usize) -> bool {
        line_index >= self.tests_from
    }

    /// Modules that this file declares for tests only: `#[cfg(test)]` above `mod name;`.
    fn test_only_modules(&self) -> impl Iterator<Item = String> {
        let dir = self.path.rsplit_once('/').map_or("", |(dir, _)| dir);
        let stem = self.path.trim_end_matches(".rs").trim_end_matches("/mod");
        let home = if self.path.ends_with("/mod.rs") || self.path.ends_with("/lib.rs") {
            dir.to_owned()
        } else {
            stem.to_owned()
        };
        let named = self.code.windows(2).filter(|pair| pair[0].trim() == "#[cfg(test)]");
        named
            .filter_map(|pair| Some(pair[1].trim().strip_suffix(';')?.rsplit_once("mod ")?.1))
            .map(move |name| format!("{home}/{name}"))
            .collect::<Vec<_>>()
            .into_iter()
    }
}

/// Every text file under the root that git would track.
pub(super) fn tree() -> Vec<Source> {
    // Asked at run time: a shared target directory may hold the test of another checkout.
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let root = Path::new(&root);
    let ignored = fs::read_to_string(root.join(".gitignore")).unwrap_or_default();
    let ignored: Vec<&str> = ignored.lines().map(|line| line.trim_matches('/')).collect();
    let mut sources = Vec::new();
    walk(root, "", &ignored, &mut sources);
    let test_only: BTreeSet<String> = sources.iter().flat_map(Source::test_only_modules).collect();
    for source in &mut sources {
        let within = |module: &String| {
            let rest = source.path.strip_prefix(module.as_str());
            rest.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        };
        if test_only.iter().any(within) {
            source.tests_from = 0;
        }
    }
    sources
}

fn walk(dir: &Path, prefix: &str, ignored: &[&str], sources: &mut Vec<Source>) {
    let entries = fs::read_dir(dir).unwrap();
    let mut entries: Vec<_> = entries.map(|entry| entry.unwrap()).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().into_string().unwrap();
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") };
        let skip = |pattern: &&str| match pattern.strip_prefix('*') {
            Some(suffix) => name.ends_with(suffix),
            None => name == **pattern || path == **pattern,
        };
        if name == ".git" || ignored.iter().any(skip) {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            walk(&entry.path(), &path, ignored, sources);
        } else if let Ok(text) = fs::read_to_string(entry.path()) {
            sources.push(Source::new(&path, &text));
        }
    }
}

fn is_test_path(path: &str) -> bool {
    let in_dir = |dir: &str| path.starts_with(dir) || path.contains(&format!("/{dir}"));
    in_dir("tests/")
        || path.ends_with("/tests.rs")
        || path.starts_with("compat-tests/")
        || path.starts_with("benches/")
}

/// Where the inline test module begins; by our convention it is the last thing of a file.
fn test_module_line(code: &[String]) -> usize {
    let opens_tests = |pair: &[String]| {
        pair[0].trim() == "#[cfg(test)]" && pair[1].contains("mod ") && pair[1].contains('{')
    };
    code.windows(2).position(opens_tests).unwrap_or(usize::MAX)
}

/// The lines of a Rust file with comments and the content of strings and characters taken out.
fn code_of(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let rest = &chars[at..];
        let skipped = comment_len(rest).or_else(|| string_len(rest, chars[..at].last()));
        match skipped {
            Some(len) => {
                // A skipped part keeps its line breaks, so that line numbers stay right.
                code.extend(rest[..len].iter().filter(|c| **c == '\n'));
                code.push(' ');
                at += len;
            }
            None => {
                code.push(rest[0]);
                at += 1;
            }
        }
    }
    code.lines().map(str::to_owned).collect()
}

fn comment_len(rest: &[char]) -> Option<usize> {
    match rest {
        ['/', '/', ..] => Some(rest.iter().position(|c| *c == '\n').unwrap_or(rest.len())),
        ['/', '*', ..] => {
            let end = rest.windows(2).skip(2).position(|pair| pair == ['*', '/']);
            Some(end.map_or(rest.len(), |end| end + 4))
        }
        _ => None,
    }
}

/// Length of the string or character literal that starts here.
fn string_len(rest: &[char], before: Option<&char>) -> Option<usize> {
    let after_word = before.is_some_and(|c| c.is_alphanumeric() || *c == '_');
    match rest {
        ['"', ..] => Some(quoted_len(rest)),
        ['r', '"' | '#', ..] if !after_word || before == Some(&'b') => raw_len(rest),
        ['\'', '\\', ..] => Some(3 + rest[3..].iter().position(|c| *c == '\'')? + 1),
        ['\'', _, '\'', ..] => Some(3),
        _ => None,
    }
}

fn quoted_len(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != '"' {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

fn raw_len(rest: &[char]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        return None;
    }
    let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let body = 2 + hashes;
    let found = rest[body..].windows(end.len()).position(|window| window == end)?;
    Some(body + found + end.len())
}

#[test]
fn comments_strings_and_characters_are_not_code() {
    let text = "a // b\n/* c\nd */ e \"f\\\" g\" h r#\"i \"j\"# 'k' '\\n' l<'m> br\"n\" o";
    let code = code_of(text);
    assert_eq!(code.len(), 3);
    let words: String = code.join("|").split_whitespace().collect();
    assert_eq!(words, "a||ehl<'m>bo");
}

#[test]
fn test_code_is_told_apart() {
    let inline = Source::new("src/a.rs", "fn a() {}\n#[cfg(test)]\nmod tests {\n}\n");
    assert!(!inline.is_test(0) && inline.is_test(2));
    assert!(Source::new("src/a/tests.rs", "x").is_test(0));
    assert!(Source::new("raft/tests/suite.rs", "x").is_test(0));
    assert!(!Source::new("src/a.rs", "fn a() {}").is_test(0));
    let declares = Source::new("src/a/mod.rs", "#[cfg(test)]\nmod model;\nmod real;\n");
    assert_eq!(declares.test_only_modules().collect::<Vec<_>>(), ["src/a/model"]);
    let declares = Source::new("src/b.rs", "#[cfg(test)]\npub(crate) mod model;\n");
    assert_eq!(declares.test_only_modules().collect::<Vec<_>>(), ["src/b/model"]);
}
