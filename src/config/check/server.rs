//! `server`, `admin` and `registry`.

use secrecy::ExposeSecret as _;

use super::*;
use crate::config::addresses::overlap;

impl Checker<'_> {
    pub(super) fn server(&mut self, raw: RawServer) -> Server {
        let listen = match raw.listen {
            Some(OneOrMany::One(one)) => vec![one],
            Some(OneOrMany::Many(many)) => many,
            None => Vec::new(),
        };
        let listen = self.within("listen", |c| {
            listen.iter().filter_map(|text| c.address(text)).collect()
        });
        let plaintext = raw.plaintext.unwrap_or(false);
        match (&raw.tls, plaintext) {
            (None, false) => self.report(
                "neither `tls` nor `plaintext: true`",
                "add `tls: {cert_file: tls.crt, key_file: tls.key}`; `plaintext: true` only behind something that ends TLS",
            ),
            (Some(_), true) => self.report("both `tls` and `plaintext: true`", "remove one of the two"),
            _ => {}
        }
        let limits = raw.limits.unwrap_or_default();
        let timeouts = raw.timeouts.unwrap_or_default();
        Server {
            listen,
            tls: raw.tls.map(|tls| self.within("tls", |c| c.server_tls(tls))),
            base_paths: self.within("base_paths", |c| c.base_paths(raw.base_paths)),
            limits: self.within("limits", |c| Limits {
                request_body: c.size("request_body", limits.request_body, 1 << 20),
                // hyper reads a head into one buffer, and wants 8 KiB for it at least.
                request_head: c
                    .size("request_head", limits.request_head, 32 << 10)
                    .max(8 << 10),
                connections: c.positive("connections", limits.connections, 10_000) as usize,
                streams_per_connection: c.positive(
                    "streams_per_connection",
                    limits.streams_per_connection,
                    100,
                ),
            }),
            timeouts: self.within("timeouts", |c| ServerTimeouts {
                request_head: c.timeout(
                    "request_head",
                    timeouts.request_head,
                    Duration::from_secs(10),
                ),
                request_body: c.timeout(
                    "request_body",
                    timeouts.request_body,
                    Duration::from_secs(30),
                ),
                idle: c.timeout("idle", timeouts.idle, Duration::from_secs(75)),
            }),
            drain_delay: self.duration("drain_delay", raw.drain_delay, Duration::ZERO),
            drain_timeout: self.duration(
                "drain_timeout",
                raw.drain_timeout,
                Duration::from_secs(30),
            ),
        }
    }

    /// Two listeners can't have one port, unless their addresses differ. The same address twice in
    /// `server.listen` is one listener.
    pub(super) fn listeners_go_together(&mut self, server: &[SocketAddr], admin: SocketAddr) {
        for (at, one) in server.iter().enumerate() {
            let mut before = server[..at].iter().filter(|other| *other != one);
            if let Some(other) = before.find(|other| overlap(**other, *one, false)) {
                self.path = vec![Step::Key("server".into()), Step::Key("listen".into())];
                self.at(Step::Index(at), |c| {
                    c.report(
                        format!("{one} overlaps with {other}"),
                        "keep the wider one of the two, or choose another port",
                    )
                });
            }
        }
        if let Some(other) = server.iter().find(|other| overlap(**other, admin, false)) {
            self.path = vec![Step::Key("admin".into()), Step::Key("listen".into())];
            self.report(
                format!("{admin} overlaps with {other} of server.listen"),
                "give the admin listener a port of its own",
            );
        }
        self.path.clear();
    }

    pub(super) fn address(&mut self, text: &str) -> Option<SocketAddr> {
        let parsed = SocketAddr::from_str(text).ok();
        if parsed.is_none() {
            let remedy = match text.strip_prefix(':') {
                Some(port) => format!("write `0.0.0.0:{port}`"),
                None => "write an IP address and a port, such as `0.0.0.0:8443` or `[::]:8443`"
                    .to_owned(),
            };
            self.report(format!("{text:?} is no address"), remedy);
        }
        parsed
    }

    pub(super) fn server_tls(&mut self, raw: RawServerTls) -> ServerTls {
        let version = raw.min_version.unwrap_or_else(|| "1.2".to_owned());
        if !["1.2", "1.3"].contains(&version.as_str()) {
            self.within("min_version", |c| {
                c.report(
                    format!("{version:?} is no version that is served"),
                    "write \"1.2\" or \"1.3\"",
                )
            });
        }
        ServerTls {
            cert_file: self.file(&raw.cert_file.unwrap_or_default()),
            key_file: self.file(&raw.key_file.unwrap_or_default()),
            tls13_only: version == "1.3",
        }
    }

    pub(super) fn base_paths(&mut self, raw: Option<Vec<String>>) -> Vec<String> {
        let Some(paths) = raw else {
            return BASE_PATHS.map(str::to_owned).to_vec();
        };
        if paths.is_empty() {
            self.report(
                "no path is left to serve",
                "leave the key out for the defaults",
            );
        }
        for path in &paths {
            if !path.starts_with('/') || path.contains(['?', '#', ' ']) {
                self.report(
                    format!("{path:?} is no base path"),
                    "begin with a slash; `{name}` stands for any one segment",
                );
            }
        }
        paths
    }

    pub(super) fn admin(&mut self, raw: RawAdmin) -> Admin {
        let default = SocketAddr::from(([127, 0, 0, 1], 9090));
        let listen = self.within("listen", |c| {
            raw.listen
                .map_or(default, |text| c.address(&text).unwrap_or(default))
        });
        let known = self.names_of("authenticators");
        let wanted = raw.authenticators.unwrap_or_default();
        self.within("authenticators", |c| {
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            for name in wanted.iter().filter(|name| !known.contains(&name.as_str())) {
                c.missing("authenticator", name, &known);
            }
        });
        let is_open = raw.open.unwrap_or(false);
        if !listen.ip().is_loopback() && wanted.is_empty() && !is_open {
            self.within("listen", |c| {
                c.report(
                    format!("everybody who reaches {listen} could read metrics and configuration"),
                    "listen on 127.0.0.1, name `authenticators`, or say `open: true`",
                );
            });
        }
        Admin {
            listen,
            tls: raw.tls.map(|tls| self.within("tls", |c| c.server_tls(tls))),
            authenticators: wanted,
        }
    }

    pub(super) fn registry(&mut self, raw: RawRegistry) -> Registry {
        match (raw.sqlite, raw.postgres, raw.memory, raw.passthrough) {
            (None, None, Some(_), None) => Registry::Memory,
            (None, None, None, Some(_)) => Registry::Passthrough,
            (None, Some(postgres), None, None) => self.within("postgres", |c| {
                Registry::Postgres(Box::new(c.postgres(postgres)))
            }),
            (sqlite, None, None, None) => {
                let path = sqlite
                    .and_then(|s| s.path)
                    .unwrap_or_else(|| "livy-gateway.db".to_owned());
                Registry::Sqlite(self.file(&path))
            }
            _ => {
                self.report(
                    "more than one store",
                    "keep one of `sqlite`, `postgres`, `passthrough` and `memory`",
                );
                Registry::Memory
            }
        }
    }

    /// Ids can be passed through if one cluster gives all of them, and gives numbers.
    pub(super) fn passthrough_needs_numbers(&mut self, registry: &Registry, clusters: &[Cluster]) {
        if !matches!(registry, Registry::Passthrough) {
            return;
        }
        let remedy =
            "use `sqlite` for one gateway, `postgres` for several, or a gateway for each cluster";
        let named = self.names_of("clusters").len();
        self.within("registry", |c| {
            c.within("passthrough", |c| {
                if named > 1 {
                    c.report(
                        format!("ids are the cluster's own, and there are {named} clusters: one id would be several batches"),
                        remedy,
                    );
                }
                for cluster in clusters.iter().filter(|one| one.flavor == Flavor::Kyuubi) {
                    c.report(
                        format!("ids of cluster {:?} ({}) are no numbers, and clients read only numbers", cluster.name, cluster.flavor),
                        remedy,
                    );
                }
            })
        });
    }

    fn postgres(&mut self, raw: RawPostgres) -> Postgres {
        if raw.url.is_none() {
            self.report(
                "no `url`",
                "write `url: {file: registry-url}`; the file says `postgres://user:password@host:5432/database`",
            );
        }
        let known = self.problems.len();
        let url = self.kept_secret("url", raw.url);
        if self.problems.len() == known {
            self.within("url", |c| c.postgres_url(url.text.expose_secret()));
        }
        let pool = raw.pool.unwrap_or(10);
        if pool == 0 {
            self.within("pool", |c| {
                c.report("no connection at all", "write 1 or more, or leave it out")
            });
        }
        Postgres {
            url,
            pool: pool as usize,
            tls: raw.tls.map_or_else(ClusterTls::default, |tls| {
                self.within("tls", |c| c.cluster_tls(tls, None))
            }),
        }
    }

    #[cfg(feature = "postgres")]
    fn postgres_url(&mut self, url: &str) {
        if url.is_empty() {
            return;
        }
        if let Err(why) = crate::config::postgres_url::parse(url) {
            self.report(
                format!("it is no URL of a PostgreSQL database: {why}"),
                "write `postgres://user:password@host:5432/database`",
            );
        }
    }

    #[cfg(not(feature = "postgres"))]
    fn postgres_url(&mut self, _: &str) {
        self.report(
            "this gateway was built without PostgreSQL",
            "build it with `--features postgres`",
        );
    }
}
