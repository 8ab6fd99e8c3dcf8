//! The load program: measures a broker from outside, beside the limits of the machine.
//!
//! Batches are encoded once and sent again and again, so that the program is not the bottleneck;
//! `null` is a broker that does nothing, whose rate is this program's own ceiling. Latencies of an
//! open loop count from the scheduled time, so a stall shows in every request it delayed.
//! benches/README.md says how to read the figures.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "a measuring program: it prints, takes the time, and stops at the first surprise"
)]

use std::time::Duration;

use clap::{Args, Parser, Subcommand};

mod bars;
mod broker;
mod clean;
mod client;
mod consume;
mod crowd;
mod frames;
mod limits;
mod null;
mod stream;
mod transactions;

#[derive(Parser)]
#[command(about = "Measures a Kafka broker from outside")]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Given by `cargo bench`; means nothing here.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum Command {
    /// A broker that acknowledges and forgets.
    Null {
        /// Where it listens.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: String,
    },
    /// Produces pre-encoded batches and prints one line of figures.
    Produce(Produce),
    /// Reads a topic from the beginning, again and again, and prints one line of figures.
    Consume(Consume),
    /// Writes alone, while hostile connections arrive, and while they are there.
    Crowd {
        /// The broker's program.
        #[arg(long)]
        broker: std::path::PathBuf,
        /// A directory for its data.
        #[arg(long, default_value = ".")]
        dir: std::path::PathBuf,
        #[arg(long, default_value_t = 10_000)]
        connections: usize,
        /// Arrivals per second; without it as fast as they come.
        #[arg(long)]
        rate: Option<f64>,
        #[arg(long, default_value_t = 3)]
        rounds: usize,
    },
    /// Writes beside a topic that is being compacted, and beside the same topic that is not.
    Clean {
        /// The broker's program.
        #[arg(long)]
        broker: std::path::PathBuf,
        /// A directory for its data.
        #[arg(long, default_value = ".")]
        dir: std::path::PathBuf,
        /// Megabytes per second written to the topic beside.
        #[arg(long, default_value_t = 20.0)]
        beside: f64,
        #[arg(long, default_value_t = 20.0)]
        seconds: f64,
        #[arg(long, default_value_t = 3)]
        rounds: usize,
    },
    /// Writes in transactions, and outside of them.
    Transactions {
        /// The broker's program.
        #[arg(long)]
        broker: std::path::PathBuf,
        /// A directory for its data.
        #[arg(long, default_value = ".")]
        dir: std::path::PathBuf,
        #[command(flatten)]
        shape: transactions::Shape,
    },
    /// The hostile connections of `crowd`, until its input ends.
    #[command(hide = true)]
    CrowdOf {
        #[arg(long)]
        to: String,
        #[arg(long)]
        connections: usize,
        #[arg(long)]
        rate: Option<f64>,
    },
    /// Sends a cached file to whoever connects: the ceiling of consuming.
    Stream {
        /// Where it listens.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: String,
    },
    /// Prints what the machine itself can do.
    Limits {
        /// A directory on the disk in question.
        #[arg(long, default_value = ".")]
        dir: std::path::PathBuf,
    },
    /// Runs the bars of docs/performance.md against a broker it starts, in one run.
    Bars {
        /// The broker's program.
        #[arg(long)]
        broker: std::path::PathBuf,
        /// A directory on the disk in question.
        #[arg(long, default_value = ".")]
        dir: std::path::PathBuf,
        /// Rounds; the median counts.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// GiB stored before the kill of the recovery bar.
        #[arg(long, default_value_t = 10.0)]
        stored_gib: f64,
        /// Only the bars of consuming.
        #[arg(long)]
        only_consuming: bool,
    },
}

/// The shape of a load.
#[derive(Args, Clone, Debug)]
struct Produce {
    /// Address of the broker.
    #[arg(long, default_value = "127.0.0.1:9092")]
    to: String,
    /// Topic, created when missing.
    #[arg(long, default_value = "load")]
    topic: String,
    #[arg(long, default_value_t = 1)]
    partitions: i32,
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Requests on their way per connection.
    #[arg(long, default_value_t = 1)]
    in_flight: usize,
    /// Records per request.
    #[arg(long, default_value_t = 1)]
    records: usize,
    /// Bytes of each record's value.
    #[arg(long, default_value_t = 100)]
    size_bytes: usize,
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    acks: i16,
    /// Requests per second over all connections: an open loop. Without it the loop is closed.
    #[arg(long)]
    rate: Option<f64>,
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

/// The shape of a reading load.
#[derive(Args, Clone, Debug)]
struct Consume {
    /// Address of the broker.
    #[arg(long, default_value = "127.0.0.1:9092")]
    to: String,
    /// Topic, with something in it.
    #[arg(long, default_value = "load")]
    topic: String,
    /// Partitions to read.
    #[arg(long, default_value_t = 1)]
    partitions: i32,
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Bytes asked for at once.
    #[arg(long, default_value_t = 1 << 20)]
    max_bytes: i32,
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

impl Produce {
    fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

fn main() {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        match cli.command {
            Command::Null { listen } => null::run(&listen).await,
            Command::Produce(shape) => {
                client::create_topic(&shape).await;
                println!("{}", client::produce(&shape).await);
            }
            Command::Consume(shape) => println!("{}", consume::consume(&shape).await),
            Command::Stream { listen } => stream::run(&listen),
            Command::Crowd { broker, dir, connections, rate, rounds } => {
                crowd::run(&broker, &dir, connections, rate, rounds);
            }
            Command::Clean { broker, dir, beside, seconds, rounds } => {
                clean::run(&broker, &dir, beside, seconds, rounds).await;
            }
            Command::Transactions { broker, dir, shape } => {
                transactions::run(&broker, &dir, shape).await;
            }
            Command::CrowdOf { to, connections, rate } => crowd::be(&to, connections, rate),
            Command::Limits { dir } => println!("{}", limits::measure(&dir).await),
            Command::Bars { broker, dir, rounds, only_consuming: true, .. } => {
                bars::run_consuming(&broker, &dir, rounds).await;
            }
            Command::Bars { broker, dir, rounds, stored_gib, .. } => {
                bars::run(&broker, &dir, rounds, stored_gib).await;
            }
        }
    });
}
