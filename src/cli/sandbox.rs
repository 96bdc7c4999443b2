//! `livy-gateway sandbox`.

use std::io::Write as _;
use std::net::SocketAddr;

use livy_dialect::{Flavor, Settings};

use super::shared;
use crate::sandbox::{self, INSTANCE, PASSWORD, TOKEN, USER};

pub(super) fn run(listen: SocketAddr, flavors: Vec<Flavor>) -> Result<(), String> {
    let flavors = if flavors.is_empty() {
        Flavor::ALL.to_vec()
    } else {
        flavors
    };
    shared::runtime()?.block_on(async {
        let address = sandbox::start(listen, &flavors)
            .await
            .map_err(|error| format!("can't bind {listen}: {error}"))?;
        tell(address, &flavors).map_err(|error| error.to_string())?;
        tokio::signal::ctrl_c()
            .await
            .map_err(|error| error.to_string())
    })
}

fn tell(address: SocketAddr, flavors: &[Flavor]) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    writeln!(
        out,
        "simulated clusters at http://{address}; Ctrl-C ends them"
    )?;
    let settings = Settings {
        instance_id: Some(INSTANCE.to_owned()),
        default_fs: None,
    };
    for flavor in flavors {
        let login = match flavor {
            Flavor::Livy => "no login".to_owned(),
            Flavor::Ibm => format!("bearer {TOKEN}"),
            Flavor::Knox | Flavor::Hdinsight | Flavor::Kyuubi => format!("basic {USER}:{PASSWORD}"),
        };
        writeln!(
            out,
            "  {:<10} http://{address}{}/batches  ({login})",
            flavor.as_str(),
            flavor.dialect().base_path(&settings)
        )?;
    }
    out.flush()
}
