//! One of the real servers alone, to be tried by hand: says where it is and how to log in, and goes
//! when it is told to.

use std::process::ExitCode;

use testkit::servers::front::{Front, PASSWORD, USER, hdinsight_front, knox_front};
use testkit::servers::livy::{Livy, LivySetup};
use testkit::servers::yarn::Yarn;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Server {
    Livy,
    LivyOnYarn,
    Knox,
    Hdinsight,
}

impl Server {
    pub(crate) fn from_word(word: &str) -> Result<Server, String> {
        match word {
            "livy" => Ok(Server::Livy),
            "livy-on-yarn" => Ok(Server::LivyOnYarn),
            "knox" => Ok(Server::Knox),
            "hdinsight" => Ok(Server::Hdinsight),
            _ => Err(format!(
                "{word} is no server; there are livy, livy-on-yarn, knox, hdinsight"
            )),
        }
    }
}

pub(crate) fn until_told(server: Server) -> ExitCode {
    let yarn = matches!(server, Server::LivyOnYarn).then(Yarn::start);
    let livy = Livy::set_up(&LivySetup {
        yarn: yarn.as_ref(),
        ..LivySetup::default()
    });
    let front = match server {
        Server::Knox => Some((knox_front(&livy), "/gateway/default/livy/v1")),
        Server::Hdinsight => Some((hdinsight_front(&livy), "/livy")),
        Server::Livy | Server::LivyOnYarn => None,
    };
    let job = format!("{}/certify.py", livy.jobs());
    match &front {
        None => println!("http://{}", livy.address),
        Some((
            Front {
                address, ca_file, ..
            },
            path,
        )) => {
            println!(
                "https://localhost:{}{path} --user {USER}:{PASSWORD} --ca {}",
                address.port(),
                ca_file.display()
            );
        }
    }
    println!(
        "job files: {job} {} {}; Ctrl-C ends it",
        livy.job(),
        livy.jvm_job()
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    // Not by the signal itself: what was started is stopped by its owners, which must go in order.
    runtime
        .block_on(tokio::signal::ctrl_c())
        .map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}
