//! `clusters`: base URLs, credentials and TLS that can work with the flavor.

use super::*;

impl Checker<'_> {
    pub(super) fn clusters(&mut self, raw: BTreeMap<String, RawCluster>) -> Vec<Cluster> {
        if raw.is_empty() && self.keys_in_file().is_empty() {
            self.report(
                "no cluster",
                "add one: `onprem: {flavor: livy, url: \"http://livy.example.com:8998\"}`",
            );
        }
        raw.into_iter()
            .filter_map(|(name, raw)| {
                if !is_label(&name) {
                    self.within(&name, |c| {
                        c.report(
                            format!("{name:?} is no cluster name"),
                            "use letters, digits, `-`, `_` and `.`: it stands in paths and metrics",
                        )
                    });
                }
                self.within(&name.clone(), |c| c.cluster(name, raw))
            })
            .collect()
    }

    pub(super) fn cluster(&mut self, name: String, raw: RawCluster) -> Option<Cluster> {
        let flavor = match raw.flavor? {
            RawFlavor::Livy => Flavor::Livy,
            RawFlavor::Knox => Flavor::Knox,
            RawFlavor::Hdinsight => Flavor::Hdinsight,
            RawFlavor::Ibm => Flavor::Ibm,
            RawFlavor::Kyuubi => Flavor::Kyuubi,
        };
        if raw.default_fs.is_some() && flavor != Flavor::Kyuubi {
            self.within("default_fs", |c| {
                c.report(format!("{flavor} resolves paths itself"), "remove the key")
            });
        }
        if raw.instance_id.is_some() && flavor != Flavor::Ibm {
            self.within("instance_id", |c| {
                c.report(format!("{flavor} has no instances"), "remove the key")
            });
        }
        let settings = Settings {
            instance_id: raw.instance_id,
            default_fs: raw.default_fs,
        };
        let base = self.within("url", |c| c.base_url(&raw.url?, flavor, &settings));
        let timeouts = raw.timeouts.unwrap_or_default();
        Some(Cluster {
            definition: self.definition(),
            credentials: self.within("credentials", |c| {
                c.credentials(raw.credentials, flavor, base.as_ref())
            }),
            tls: self.within("tls", |c| {
                c.cluster_tls(raw.tls.unwrap_or_default(), base.as_ref())
            }),
            timeouts: self.within("timeouts", |c| ClusterTimeouts {
                connect: c.timeout("connect", timeouts.connect, Duration::from_secs(3)),
                response: c.timeout("response", timeouts.response, Duration::from_secs(30)),
                create_batch: c.timeout(
                    "create_batch",
                    timeouts.create_batch,
                    Duration::from_secs(120),
                ),
            }),
            health: self.within("health", |c| {
                c.health(raw.health.unwrap_or_default(), flavor)
            }),
            max_in_flight: self.within("max_in_flight", |c| {
                c.max_in_flight(raw.max_in_flight.unwrap_or_default())
            }),
            retries: self.within("retries", |c| c.retries(raw.retries.unwrap_or_default())),
            state: match raw.state {
                None | Some(RawClusterState::Serving) => ClusterState::Serving,
                Some(RawClusterState::Draining) => ClusterState::Draining,
                Some(RawClusterState::Disabled) => ClusterState::Disabled,
            },
            settle: self.timeout("settle", raw.settle, Duration::from_secs(10)),
            freshness: self.duration("freshness", raw.freshness, Duration::from_secs(1)),
            watch: self.duration("watch", raw.watch, Duration::from_secs(60)),
            lost_after: self.timeout("lost_after", raw.lost_after, Duration::from_secs(30)),
            stale_reads: self.duration("stale_reads", raw.stale_reads, Duration::from_secs(600)),
            act_as: self.within("act_as", |c| c.act_as(raw.act_as, flavor)),
            act_as_rules: self.within("act_as_rules", |c| {
                c.act_as_rules(raw.act_as_rules.unwrap_or_default())
            }),
            drop_unsupported: raw.on_unsupported == Some(RawOnUnsupported::Drop),
            base: base?,
            settings,
            flavor,
            name,
        })
    }

    fn health(&mut self, raw: RawHealth, flavor: Flavor) -> Health {
        // IBM has no request that is as cheap as those of the others.
        let interval = if flavor == Flavor::Ibm { 60 } else { 10 };
        let ejection_time =
            self.timeout("ejection_time", raw.ejection_time, Duration::from_secs(1));
        let health = Health {
            interval: self.timeout("interval", raw.interval, Duration::from_secs(interval)),
            timeout: self.timeout("timeout", raw.timeout, Duration::from_secs(3)),
            unhealthy_after: self.positive("unhealthy_after", raw.unhealthy_after, 3),
            healthy_after: self.positive("healthy_after", raw.healthy_after, 2),
            eject_after: raw.eject_after.unwrap_or(5),
            ejection_time,
            max_ejection_time: self.timeout(
                "max_ejection_time",
                raw.max_ejection_time,
                Duration::from_secs(60).max(ejection_time),
            ),
        };
        if health.max_ejection_time < health.ejection_time {
            self.within("max_ejection_time", |c| {
                c.report(
                    "the longest ejection is shorter than the first",
                    "make it `ejection_time` or more",
                )
            });
        }
        health
    }

    fn max_in_flight(&mut self, raw: RawMaxInFlight) -> MaxInFlight {
        // A Livy or Knox serves with 200 threads by default: more at once wait there.
        MaxInFlight {
            create_batch: self.positive("create_batch", raw.create_batch, 100),
            list_batches: self.positive("list_batches", raw.list_batches, 10),
            get_batch: self.positive("get_batch", raw.get_batch, 200),
            get_state: self.positive("get_state", raw.get_state, 200),
            get_log: self.positive("get_log", raw.get_log, 50),
            delete_batch: self.positive("delete_batch", raw.delete_batch, 50),
        }
    }

    fn retries(&mut self, raw: RawRetries) -> Retries {
        let percent = raw.percent.unwrap_or(20);
        if percent > 100 {
            self.within("percent", |c| {
                c.report("more than one repeat for each request", "write 100 or less")
            });
        }
        Retries {
            percent: percent.min(100),
            floor: raw.floor.unwrap_or(5),
        }
    }

    pub(super) fn base_url(
        &mut self,
        text: &str,
        flavor: Flavor,
        settings: &Settings,
    ) -> Option<BaseUrl> {
        let uri: Option<http::Uri> = text.parse().ok();
        let parts = uri.and_then(|uri| {
            let https = match uri.scheme_str()? {
                "https" => true,
                "http" => false,
                _ => return None,
            };
            Some((
                https,
                uri.authority()?.clone(),
                uri.path().trim_end_matches('/').to_owned(),
                uri.query().is_some(),
            ))
        });
        let Some((https, authority, path, has_query)) = parts else {
            self.report(
                format!("{} is no http or https URL", hidden::quoted(text)),
                "write `https://host:port/path`",
            );
            return None;
        };
        if authority.as_str().contains('@') {
            self.report(
                "credentials must not stand in the URL",
                "use `credentials: {basic: {username: ..., password: {file: ...}}}`",
            );
            return None;
        }
        if has_query {
            self.report("a base URL has no query", "remove everything from `?` on");
        }
        if path.ends_with("/batches") {
            self.report(
                "the URL is what stands before `/batches`",
                format!(
                    "write `{}`",
                    text.trim_end_matches('/').trim_end_matches("/batches")
                ),
            );
        }
        if path.is_empty() && flavor == Flavor::Ibm && settings.instance_id.is_none() {
            self.report(
                "an ibm URL without a path needs `instance_id`",
                "add `instance_id: <the instance's GUID>`",
            );
        }
        let path = if path.is_empty() {
            flavor.dialect().base_path(settings)
        } else {
            path
        };
        Some(BaseUrl {
            https,
            authority,
            path,
        })
    }

    pub(super) fn cluster_tls(&mut self, raw: RawClusterTls, base: Option<&BaseUrl>) -> ClusterTls {
        let given = raw.ca_file.is_some() || raw.cert_file.is_some() || raw.server_name.is_some();
        if given && base.is_some_and(|base| !base.https) {
            self.report(
                "the URL is http, so there is no TLS to set up",
                "write `https://` in the URL, or remove `tls`",
            );
        }
        let client_cert = match (&raw.cert_file, &raw.key_file) {
            (Some(cert), Some(key)) => Some((self.file(cert), self.file(key))),
            (None, None) => None,
            _ => {
                self.report(
                    "a client certificate needs cert_file and key_file",
                    "add the other one",
                );
                None
            }
        };
        ClusterTls {
            ca_file: raw.ca_file.map(|path| self.file(&path)),
            client_cert,
            server_name: raw.server_name,
            insecure_skip_verify: raw.insecure_skip_verify.unwrap_or(false),
        }
    }

    pub(super) fn act_as(&mut self, raw: Option<RawActAs>, flavor: Flavor) -> ActAs {
        let service_only = matches!(flavor, Flavor::Knox | Flavor::Ibm);
        match raw {
            None if service_only => ActAs::Service,
            None | Some(RawActAs::AuthenticatedUser) if !service_only => ActAs::AuthenticatedUser,
            Some(RawActAs::Client) if !service_only => ActAs::Client,
            Some(RawActAs::Service) => ActAs::Service,
            _ => {
                let why = if flavor == Flavor::Knox {
                    "Knox overwrites proxyUser with the gateway's own login"
                } else {
                    "IBM Analytics Engine has no impersonation"
                };
                self.report(
                    format!("can't work with {flavor}: {why}"),
                    "write `service`, or leave it out",
                );
                ActAs::Service
            }
        }
    }

    pub(super) fn act_as_rules(&mut self, raw: Vec<RawActAsRule>) -> Vec<ActAsRule> {
        let mut rules = Vec::new();
        for (at, rule) in raw.into_iter().enumerate() {
            let [users, groups, names] = [
                ("users", rule.users),
                ("groups", rule.groups),
                ("names", rule.names),
            ]
            .map(|(key, list)| {
                self.at(Step::Index(at), |c| c.globs(key, list.unwrap_or_default()))
            });
            let rule = ActAsRule {
                users,
                groups,
                names,
            };
            if rule.users.is_empty() && rule.groups.is_empty() {
                self.at(Step::Index(at), |c| {
                    c.report("a rule for nobody", "add `users: [...]` or `groups: [...]`")
                });
            }
            rules.push(rule);
        }
        rules
    }
}
