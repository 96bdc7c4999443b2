//! The configuration as it is in force, for people: what the file says, every secret masked, and
//! under it the values of what the file leaves out.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::checked::{
    ActAs, Ambiguous, Cluster, ClusterState, Config, Limits, Registry, Route, Server,
    ServerTimeouts,
};

/// Puts the values that are in force under what the file says.
pub(super) fn effective(config: &Config, masked: Value) -> Value {
    let mut whole = json!({
        "server": server(&config.server),
        "admin": {
            "listen": config.admin.listen.to_string(),
            "authenticators": config.admin.authenticators,
            // It says no more than the file does.
            "open": false,
        },
        "admin_users": config.admins.users,
        "admin_groups": config.admins.groups,
        "visibility": if config.visible_to_all { "all" } else { "owner" },
        "registry": registry(config),
    });
    let clusters = config.clusters.iter();
    let clusters: Map<String, Value> = clusters
        .map(|one| (one.name.clone(), cluster(one)))
        .collect();
    whole["clusters"] = clusters.into();
    whole["routes"] = config.routes.iter().map(route).collect();
    merge(&mut whole, masked);
    whole
}

/// What is written in the file wins.
fn merge(under: &mut Value, over: Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                merge(under.entry(key).or_insert(Value::Null), value);
            }
        }
        (Value::Array(under), Value::Array(over)) if under.len() == over.len() => {
            under
                .iter_mut()
                .zip(over)
                .for_each(|(under, over)| merge(under, over));
        }
        (under, over) => *under = over,
    }
}

fn server(server: &Server) -> Value {
    json!({
        "listen": server.listen.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "plaintext": server.tls.is_none(),
        "base_paths": server.base_paths,
        "limits": limits(server.limits),
        "timeouts": timeouts(server.timeouts),
        "drain_timeout": text(server.drain_timeout),
        "drain_delay": text(server.drain_delay),
    })
}

fn limits(limits: Limits) -> Value {
    json!({
        "request_body": format!("{}B", limits.request_body),
        "request_head": format!("{}B", limits.request_head),
        "connections": limits.connections,
        "streams_per_connection": limits.streams_per_connection,
    })
}

fn timeouts(timeouts: ServerTimeouts) -> Value {
    json!({
        "request_head": text(timeouts.request_head),
        "request_body": text(timeouts.request_body),
        "idle": text(timeouts.idle),
    })
}

fn registry(config: &Config) -> Value {
    let mut shown = json!({"retain": text(config.retain)});
    match &config.registry {
        Registry::Sqlite(path) => shown["sqlite"] = json!({"path": path}),
        Registry::Postgres(postgres) => shown["postgres"] = json!({"pool": postgres.pool}),
        Registry::Memory => shown["memory"] = json!({}),
        Registry::Passthrough => shown["passthrough"] = json!({}),
    }
    shown
}

fn cluster(cluster: &Cluster) -> Value {
    json!({
        "flavor": cluster.flavor.as_str(),
        "url": cluster.base.to_string(),
        "timeouts": {
            "connect": text(cluster.timeouts.connect),
            "response": text(cluster.timeouts.response),
            "create_batch": text(cluster.timeouts.create_batch),
        },
        "health": {
            "interval": text(cluster.health.interval),
            "timeout": text(cluster.health.timeout),
            "unhealthy_after": cluster.health.unhealthy_after,
            "healthy_after": cluster.health.healthy_after,
            "eject_after": cluster.health.eject_after,
            "ejection_time": text(cluster.health.ejection_time),
            "max_ejection_time": text(cluster.health.max_ejection_time),
        },
        "max_in_flight": {
            "create_batch": cluster.max_in_flight.create_batch,
            "list_batches": cluster.max_in_flight.list_batches,
            "get_batch": cluster.max_in_flight.get_batch,
            "get_state": cluster.max_in_flight.get_state,
            "get_log": cluster.max_in_flight.get_log,
            "delete_batch": cluster.max_in_flight.delete_batch,
        },
        "retries": {
            "percent": cluster.retries.percent,
            "floor": cluster.retries.floor,
        },
        "act_as": match cluster.act_as {
            ActAs::AuthenticatedUser => "authenticated_user",
            ActAs::Client => "client",
            ActAs::Service => "service",
        },
        "state": match cluster.state {
            ClusterState::Serving => "serving",
            ClusterState::Draining => "draining",
            ClusterState::Disabled => "disabled",
        },
        "settle": text(cluster.settle),
        "freshness": text(cluster.freshness),
        "watch": text(cluster.watch),
        "lost_after": text(cluster.lost_after),
        "stale_reads": text(cluster.stale_reads),
        "on_unsupported": if cluster.drop_unsupported { "drop" } else { "reject" },
    })
}

fn route(route: &Route) -> Value {
    let targets = route.targets.iter();
    let target = |one: &super::checked::Target| json!({"cluster": one.cluster, "tier": one.tier, "weight": one.weight});
    json!({
        "name": route.name,
        "targets": targets.map(target).collect::<Vec<_>>(),
        "idempotency_ttl": text(route.idempotency_ttl),
        "ambiguous": match route.ambiguous {
            Ambiguous::Resolve => "resolve",
            Ambiguous::Error => "error",
            Ambiguous::Failover => "failover",
        },
        "late_jobs": if route.adopts_late_jobs { "adopt" } else { "kill" },
    })
}

/// Writes a duration as the file does.
fn text(duration: Duration) -> String {
    match duration.as_millis() {
        whole if whole % 1000 == 0 => format!("{}s", whole / 1000),
        millis => format!("{millis}ms"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config;

    #[test]
    fn defaults_are_shown_and_secrets_are_not() {
        let yaml = "allow_inline_secrets: true\nserver: {listen: \"127.0.0.1:0\", plaintext: true}\n\
             authenticators: {open: {anonymous: {user: guest}}}\n\
             clusters: {a: {flavor: knox, url: \"http://127.0.0.1:9\", freshness: 1500ms, credentials: {basic: {username: u, password: s3cret}}}}\n\
             routes: [{name: all, targets: [{cluster: a}]}]\n";
        let loaded = config::parse("routes.yaml", yaml.to_owned(), Path::new("."));
        let shown = loaded.expect("is right").masked();
        let a = &shown["clusters"]["a"];
        assert_eq!(
            (&a["lost_after"], &a["freshness"]),
            (&"30s".into(), &"1500ms".into())
        );
        assert_eq!(a["credentials"]["basic"]["password"], "***");
        assert_eq!(shown["routes"][0]["targets"][0]["weight"], 1);
        assert_eq!(shown["server"]["limits"]["connections"], 10_000);
        assert_eq!(
            (&a["on_unsupported"], &a["act_as"], &a["retries"]["floor"]),
            (&"reject".into(), &"service".into(), &5.into())
        );
        assert_eq!(a["max_in_flight"]["get_log"], 50);
        assert_eq!(a["health"]["eject_after"], 5);
        assert_eq!(shown["server"]["plaintext"], true);
        assert_eq!(shown["admin"]["open"], false);
        assert!(!shown.to_string().contains("s3cret"), "{shown}");
    }
}
