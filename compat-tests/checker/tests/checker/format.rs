//! Lines in and out.

use braid_checker::model::{Plan, history};
use braid_checker::{F, History, HistoryError, Recorder, Type, check};

use crate::script::{end, send};

#[test]
fn a_history_survives_its_lines() {
    let made = history(Plan { seed: 5, inputs: 200, partitions: 2, aborts: 10, deaths: 10 });
    let mut lines = Vec::new();
    made.write(&mut lines).unwrap();
    assert_eq!(History::read(&lines[..]).unwrap(), made);
}

#[test]
fn a_line_is_as_documented() {
    let line = r#"{"process":3,"op":7,"client":"java","type":"ok","t_invoke":5,"t_done":9,"node":1,"f":"send","topic":"t","partition":0,"value":"a-1","offset":4,"txn":"x"}"#;
    let read = History::read(line.as_bytes()).unwrap();
    assert_eq!(serde_json::to_string(&read.ops()[0]).unwrap(), line);
}

#[test]
fn what_began_and_did_not_end_is_of_unknown_end() {
    let recorder = Recorder::default();
    let first = recorder.invoke(1, "java", 5, send("a", -1));
    let _never = recorder.invoke(1, "java", 6, end("x", true));
    recorder.complete(first, Type::Ok, 9, |op| {
        op.node = Some(1);
        if let F::Send { offset, .. } = &mut op.f {
            *offset = Some(4);
        }
    });
    let history = recorder.history().unwrap();
    let [sent, ended] = history.ops() else { panic!("two operations") };
    assert_eq!((sent.kind, sent.t_invoke, sent.t_done), (Type::Ok, 5, Some(9)));
    assert!(matches!(sent.f, F::Send { offset: Some(4), .. }));
    assert_eq!((ended.kind, ended.t_done), (Type::Info, None));
    assert!(check(&history).is_clean());
}

#[test]
fn nonsense_is_refused_with_its_line() {
    let unknown = History::read("\n{\"process\":1}\n".as_bytes());
    assert!(matches!(unknown, Err(HistoryError::Line { line: 2, .. })), "{unknown:?}");
    let twice =
        r#"{"process":3,"op":7,"type":"ok","t_invoke":5,"t_done":9,"f":"nemesis","what":"kill"}"#;
    let twice = History::read(format!("{twice}\n{twice}\n").as_bytes());
    assert!(matches!(twice, Err(HistoryError::EndedTwice { process: 3, op: 7, .. })), "{twice:?}");
}
