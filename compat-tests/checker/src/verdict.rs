//! What the checker says in the end.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

use crate::anomaly::{Invariant, Violation};
use crate::detect;
use crate::history::History;
use crate::looks::Looks;
use crate::shrink::smallest;

/// How many of one anomaly are shown with their part of the history.
const SHOWN: usize = 3;

/// Which promises were broken, and against how many facts each was held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub violations: Vec<Violation>,
    /// A promise that is missing here, or has none, was not tried by this history.
    pub judged: BTreeMap<Invariant, u64>,
}

/// Judges a history.
#[must_use]
pub fn check(history: &History) -> Verdict {
    let (violations, judged) = detect::run(history.ops(), &Looks::default());
    Verdict { violations, judged }
}

/// How often judging a history looks at an operation, a value or a transaction: what it costs, on any machine.
#[must_use]
pub fn looks(history: &History) -> u64 {
    let looks = Looks::default();
    detect::run(history.ops(), &looks);
    looks.get()
}

/// A violation and the smallest part of the history that shows it.
#[derive(Clone, Debug)]
pub struct Shown {
    pub violation: Violation,
    pub part: History,
}

impl Verdict {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    /// Some of each anomaly, with what shows them.
    #[must_use]
    pub fn shown(&self, history: &History) -> Vec<Shown> {
        let mut counts = BTreeMap::new();
        let mut shown = Vec::new();
        for violation in &self.violations {
            let count: &mut usize = counts.entry(violation.anomaly).or_default();
            *count += 1;
            if *count <= SHOWN {
                let part = smallest(history.ops(), violation);
                shown.push(Shown { violation: violation.clone(), part });
            }
        }
        shown
    }

    /// For people: each anomaly, and the lines that show it.
    #[must_use]
    pub fn explain(&self, history: &History) -> String {
        let mut text = format!("{self}\n");
        for shown in self.shown(history) {
            text += &format!("{shown}\n");
        }
        text
    }

    /// For programs: one JSON line for the whole, then one for each violation that is shown.
    #[must_use]
    pub fn json(&self, history: &History) -> Vec<Value> {
        let judged: BTreeMap<String, u64> = self
            .judged
            .iter()
            .map(|(invariant, count)| (format!("{invariant:?}"), *count))
            .collect();
        let whole = json!({
            "clean": self.is_clean(), "operations": history.ops().len(),
            "violations": self.violations.len(), "judged": judged,
        });
        let each = self.shown(history).into_iter().map(|shown| {
            json!({
                "anomaly": shown.violation.anomaly.name(),
                "invariant": format!("{:?}", shown.violation.anomaly.invariant()),
                "subject": shown.violation.subject,
                "explanation": shown.violation.explanation,
                "history": shown.part.ops(),
            })
        });
        std::iter::once(whole).chain(each).collect()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for violation in &self.violations {
            *counts.entry(violation.anomaly.to_string()).or_default() += 1;
        }
        match counts.len() {
            0 => write!(f, "clean")?,
            _ => write!(f, "{} violations", self.violations.len())?,
        }
        for (anomaly, count) in counts {
            write!(f, "; {count} × {anomaly}")?;
        }
        write!(f, "; facts:")?;
        for (invariant, count) in &self.judged {
            write!(f, " {invariant:?} {count}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation { anomaly, subject, explanation, .. } = &self.violation;
        writeln!(f, "{anomaly}: {subject}: {explanation}")?;
        for op in self.part.ops() {
            let line = serde_json::to_string(op).map_err(|_| fmt::Error)?;
            writeln!(f, "    {line}")?;
        }
        Ok(())
    }
}
