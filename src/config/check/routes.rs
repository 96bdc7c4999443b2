//! `routes`: references that exist, and routes that can match.

use super::*;

impl Checker<'_> {
    pub(super) fn routes(&mut self, raw: Vec<RawRoute>) -> Vec<Route> {
        let mut routes: Vec<Route> = Vec::new();
        let mut names = HashSet::new();
        let mut catch_all: Option<String> = None;
        if raw.is_empty()
            && self
                .problems
                .iter()
                .all(|problem| !problem.path.starts_with("routes"))
        {
            self.report(
                "no route: every submission would be refused",
                "add `- {name: default, targets: [{cluster: NAME}]}`",
            );
        }
        for (at, raw) in raw.into_iter().enumerate() {
            let route = self.at(Step::Index(at), |c| {
                let route = c.route(raw);
                if !names.insert(route.name.clone()) {
                    c.within("name", |c| {
                        c.report(
                            format!("a second route named {:?}", route.name),
                            "names stand in metrics: make them differ",
                        )
                    });
                }
                if let Some(first) = &catch_all {
                    c.report(
                        format!(
                            "can never match: the route {first:?} before it matches everything"
                        ),
                        "move it up",
                    );
                }
                route
            });
            if route.matches.is_empty() && route.authenticators.is_empty() && catch_all.is_none() {
                catch_all = Some(route.name.clone());
            }
            routes.push(route);
        }
        routes
    }

    pub(super) fn route(&mut self, raw: RawRoute) -> Route {
        let name = raw.name.unwrap_or_default();
        if !name.is_empty() && !is_label(&name) {
            self.within("name", |c| {
                c.report(
                    format!("{name:?} is no route name"),
                    "use letters, digits, `-`, `_` and `.`",
                )
            });
        }
        let all = self.names_of("authenticators");
        let known: Vec<&str> = all.iter().map(String::as_str).collect();
        self.within("authenticators", |c| {
            for (at, wanted) in raw.authenticators.iter().flatten().enumerate() {
                if !all.contains(wanted) {
                    c.at(Step::Index(at), |c| {
                        c.missing("authenticator", wanted, &known)
                    });
                }
            }
        });
        let targets = self.within("targets", |c| c.targets(raw.targets));
        Route {
            matches: self.within("match", |c| c.matches(raw.matches.unwrap_or_default())),
            authenticators: raw.authenticators.unwrap_or_default(),
            targets,
            idempotency_ttl: self.timeout(
                "idempotency_ttl",
                raw.idempotency_ttl,
                Duration::from_secs(86_400),
            ),
            ambiguous: match raw.ambiguous {
                None | Some(RawAmbiguous::Resolve) => Ambiguous::Resolve,
                Some(RawAmbiguous::Error) => Ambiguous::Error,
                Some(RawAmbiguous::Failover) => Ambiguous::Failover,
            },
            adopts_late_jobs: raw.late_jobs == Some(RawLateJobs::Adopt),
            name,
        }
    }

    pub(super) fn targets(&mut self, raw: Option<Vec<RawTarget>>) -> Vec<Target> {
        if raw.as_ref().is_some_and(Vec::is_empty) {
            self.report("no target", "write `[{cluster: NAME}]`");
        }
        let written = self.names_of("clusters");
        let known: Vec<&str> = written.iter().map(String::as_str).collect();
        let mut targets = Vec::new();
        for (at, target) in raw.unwrap_or_default().into_iter().enumerate() {
            self.at(Step::Index(at), |c| {
                let Some(cluster) = target.cluster else {
                    return;
                };
                if !written.contains(&cluster) {
                    c.within("cluster", |c| c.missing("cluster", &cluster, &known));
                }
                let weight = c.positive("weight", target.weight, 1);
                targets.push(Target {
                    cluster,
                    tier: target.tier.unwrap_or(1),
                    weight,
                });
            });
        }
        targets
    }

    pub(super) fn matches(&mut self, raw: RawMatch) -> Match {
        let mut globs = |key: &str, list: Option<OneOrMany>| {
            let list = match list {
                None => Vec::new(),
                Some(OneOrMany::One(one)) => vec![one],
                Some(OneOrMany::Many(many)) => many,
            };
            self.globs(key, list)
        };
        let [users, groups, queue, name, file] = [
            ("users", raw.users),
            ("groups", raw.groups),
            ("queue", raw.queue),
            ("name", raw.name),
            ("file", raw.file),
        ]
        .map(|(key, list)| globs(key, list));
        let header = raw
            .header
            .unwrap_or_default()
            .into_iter()
            .filter_map(|(name, pattern)| {
                let pattern = self.within("header", |c| c.within(&name, |c| c.glob(pattern)));
                let parsed = http::HeaderName::from_str(&name).ok();
                if parsed.is_none() {
                    self.within("header", |c| {
                        c.report(
                            format!("{name:?} is no header name"),
                            "use letters, digits and `-`",
                        )
                    });
                }
                parsed.map(|name| (name, pattern))
            });
        Match {
            header: header.collect(),
            users,
            groups,
            queue,
            name,
            file,
        }
    }
}
