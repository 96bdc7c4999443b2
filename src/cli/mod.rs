//! The command line: one file per command.

mod certify;
mod check;
mod demo;
#[cfg(feature = "kerberos")]
mod kerberos;
mod ports;
mod registry;
mod sandbox;
mod schema;
mod serve;
mod shared;

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};
use livy_dialect::Flavor;

use crate::observe::log::Log;
use shared::{ConfigFile, Format};

/// One stable Apache Livy batch endpoint in front of Livy, Knox, HDInsight, IBM Analytics Engine
/// and Kyuubi clusters.
#[derive(Debug, Parser)]
#[command(name = "livy-gateway", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the gateway.
    #[command(after_help = "Example:\n  livy-gateway serve -c /etc/livy-gateway/routes.yaml")]
    Serve(ConfigFile),
    /// Checks routes.yaml: every problem at once, with line, column and remedy.
    #[command(after_help = "Example:\n  livy-gateway check -c routes.yaml --probe")]
    Check {
        #[command(flatten)]
        config: ConfigFile,
        /// Also asks each cluster and reads each key set.
        #[arg(long)]
        probe: bool,
        /// How problems are written.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Runs a conformance suite against any Livy batch endpoint, a real Apache Livy or a gateway.
    #[command(
        after_help = "Examples:\n  livy-gateway certify http://livy:8998 --job hdfs:///jobs/certify.py\n  \
        livy-gateway certify https://gateway:8443 --user alice:secret --ca ca.pem --job hdfs:///jobs/certify.py --format junit > certify.xml\n  \
        livy-gateway certify --print-job | hdfs dfs -put - /jobs/certify.py"
    )]
    Certify(Box<certify::Certify>),
    /// Prints the JSON Schema of routes.yaml.
    #[command(after_help = "Example:\n  livy-gateway schema > routes.schema.json")]
    Schema,
    /// Runs simulated clusters and a gateway in front of them, and prints curl lines to try.
    #[command(after_help = "Example:\n  livy-gateway demo")]
    Demo {
        /// Where the gateway listens; port 0 takes a free one.
        #[arg(long, default_value = "127.0.0.1:8443")]
        listen: SocketAddr,
    },
    /// Runs simulated clusters, one per flavor, each at its own path.
    #[command(
        after_help = "Example:\n  livy-gateway sandbox --listen 127.0.0.1:8998 --flavor livy --flavor kyuubi"
    )]
    Sandbox {
        /// Where they listen; port 0 takes a free one.
        #[arg(long, default_value = "127.0.0.1:8998")]
        listen: SocketAddr,
        /// Which ones (default: all).
        #[arg(long = "flavor", value_enum)]
        flavors: Vec<FlavorArg>,
    },
    /// Moves, counts and looks over what is remembered of batches.
    #[command(subcommand)]
    Registry(registry::Registry),
    /// Holds tickets of Kerberos; started by `serve`.
    #[cfg(feature = "kerberos")]
    #[command(hide = true)]
    KerberosSession(kerberos::Session),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FlavorArg {
    Livy,
    Knox,
    Hdinsight,
    Ibm,
    Kyuubi,
}

impl From<FlavorArg> for Flavor {
    fn from(arg: FlavorArg) -> Flavor {
        match arg {
            FlavorArg::Livy => Flavor::Livy,
            FlavorArg::Knox => Flavor::Knox,
            FlavorArg::Hdinsight => Flavor::Hdinsight,
            FlavorArg::Ibm => Flavor::Ibm,
            FlavorArg::Kyuubi => Flavor::Kyuubi,
        }
    }
}

/// Runs the command line. Exit status: 0 fine, 1 the thing asked for failed, 2 wrong usage (clap's
/// own).
pub fn run() -> ExitCode {
    let command = Cli::parse().command;
    let log = match command.keeps_a_log().then(start_log).transpose() {
        Ok(log) => log,
        Err(error) => {
            eprintln!("the log can't be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = match command {
        Command::Serve(config) => serve::run(&config.path),
        Command::Check {
            config,
            probe,
            format,
        } => check::run(&config.path, probe, format),
        Command::Certify(certify) => certify.run(Cli::command()),
        Command::Schema => schema::run(),
        Command::Demo { listen } => demo::run(listen),
        Command::Sandbox { listen, flavors } => {
            sandbox::run(listen, flavors.into_iter().map(Flavor::from).collect())
        }
        Command::Registry(command) => registry::run(command),
        #[cfg(feature = "kerberos")]
        Command::KerberosSession(session) => kerberos::run(&session),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            // A report that was printed already says why.
            match &log {
                _ if why.is_empty() => {}
                // Behind the lines that are still waiting, and with their bound: stderr may be a
                // pipe that nobody reads.
                Some(log) => log.lines().say(why.trim_end()),
                None => eprintln!("{}", why.trim_end()),
            }
            ExitCode::FAILURE
        }
    }
}

impl Command {
    /// Tells whether it runs until it is told to stop, and writes a log meanwhile.
    fn keeps_a_log(&self) -> bool {
        matches!(
            self,
            Command::Serve(_) | Command::Demo { .. } | Command::Sandbox { .. }
        )
    }
}

/// Sets the log up: JSON lines on stderr, plain text on a terminal; the level from
/// `LIVY_GATEWAY_LOG`, as in `RUST_LOG`. Panics go there too.
fn start_log() -> std::io::Result<Log> {
    use std::io::IsTerminal as _;
    let log = Log::to_stderr()?;
    let filter = tracing_subscriber::EnvFilter::try_from_env("LIVY_GATEWAY_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(log.lines());
    if std::io::stderr().is_terminal() {
        builder.init();
    } else {
        builder.json().flatten_event(true).init();
    }
    crate::observe::log::take_panics();
    Ok(log)
}
