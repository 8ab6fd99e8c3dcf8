//! The Rust clients behind the contract of ../README.md. The first argument names the client.

mod contract;
mod of_rdkafka;
mod of_rskafka;

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("rdkafka") => contract::serve(of_rdkafka::run),
        Some("rskafka") => contract::serve(of_rskafka::run),
        other => panic!("no such client: {other:?}"),
    }
}
