//! Who may do what: who sees and kills a batch, and whom a job may run as.
//!
//! Every spelling by which a client can ask for another user (`proxyUser`, `doAs`, two `conf` keys
//! of Kyuubi and Hive) ends in one list of claims and goes through one check. What is refused is
//! said; what a cluster can't grant is said too, never pretended.

use livy_dialect::{BatchSpec, Field, Unsupported};

use crate::api::error::{ApiError, Code};
use crate::auth::Principal;
use crate::config::checked::{ActAs, Admins, Cluster};
use crate::config::glob;
use crate::registry::{Entry, Visible};

/// `conf` keys that name an effective user, with and without the prefix that Kyuubi adds and
/// strips.
const PROXY_USER_KEYS: [&str; 4] = [
    "kyuubi.session.proxy.user",
    "hive.server2.proxy.user",
    "spark.kyuubi.session.proxy.user",
    "spark.hive.server2.proxy.user",
];

/// The rules in force.
#[derive(Clone, Debug)]
pub struct Access {
    admins: Admins,
    visible_to_all: bool,
}

/// What was decided about the effective user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunAs {
    /// This user is named to the cluster.
    User(String),
    /// Nobody is named.
    Service,
    /// The client named somebody, but this cluster runs everything as the gateway's own account.
    CannotGrant(Unsupported),
}

impl Access {
    /// Makes the rules.
    pub fn new(admins: Admins, visible_to_all: bool) -> Self {
        Access {
            admins,
            visible_to_all,
        }
    }

    /// Tells whether the caller may see and kill everything.
    pub fn is_admin(&self, principal: &Principal) -> bool {
        self.admins.users.contains(&principal.user)
            || principal
                .groups
                .iter()
                .any(|group| self.admins.groups.contains(group))
    }

    /// Returns whose batches the caller may see.
    pub fn visible(&self, principal: &Principal) -> Visible {
        if self.visible_to_all || self.is_admin(principal) {
            Visible::All
        } else {
            Visible::OwnedBy(principal.user.clone())
        }
    }

    /// Tells whether the caller may know of a batch. One that was refused or deleted is known to
    /// nobody.
    pub fn may_see(&self, principal: &Principal, entry: &Entry) -> bool {
        let visible = match self.visible(principal) {
            Visible::All => true,
            Visible::OwnedBy(user) => entry.owner.as_deref() == Some(user.as_str()),
        };
        visible && entry.phase().is_visible()
    }

    /// Tells whether the caller may kill a batch that they may see.
    pub fn may_kill(&self, principal: &Principal, entry: &Entry) -> bool {
        self.is_admin(principal) || entry.owner.as_deref() == Some(principal.user.as_str())
    }

    /// Checks `doAs` on requests that are no submission: it may name the caller, or anybody if the
    /// caller is an admin.
    ///
    /// # Errors
    /// 403.
    pub fn check_do_as(&self, principal: &Principal, do_as: Option<&str>) -> Result<(), ApiError> {
        match do_as {
            Some(user) if user != principal.user && !self.is_admin(principal) => {
                Err(not_allowed(principal, user))
            }
            _ => Ok(()),
        }
    }

    /// Decides whom a job runs as on one cluster.
    ///
    /// # Errors
    /// 403 when the caller named somebody whom no rule allows.
    pub fn run_as(
        &self,
        principal: &Principal,
        cluster: &Cluster,
        claims: &[String],
    ) -> Result<RunAs, ApiError> {
        if let Some(other) = claims
            .iter()
            .find(|user| !self.may_name(principal, cluster, user))
        {
            return Err(not_allowed(principal, other));
        }
        // All claims are allowed; two different ones can't both be meant.
        if let Some(second) = claims.iter().find(|user| **user != claims[0]) {
            let message = format!(
                "the request names two effective users, '{}' and '{second}'",
                claims[0]
            );
            return Err(ApiError::new(Code::InvalidField, message));
        }
        Ok(match (cluster.act_as, claims.first()) {
            (ActAs::AuthenticatedUser | ActAs::Client, Some(user)) => RunAs::User(user.clone()),
            (ActAs::AuthenticatedUser, None) => RunAs::User(principal.user.clone()),
            (ActAs::Client | ActAs::Service, None) => RunAs::Service,
            (ActAs::Service, Some(_)) => RunAs::CannotGrant(Unsupported {
                field: Field::ProxyUser,
                conf_key: None,
                reason: format!(
                    "jobs on cluster {} run as the gateway's own account",
                    cluster.name
                ),
                droppable: true,
            }),
        })
    }

    fn may_name(&self, principal: &Principal, cluster: &Cluster, user: &str) -> bool {
        let by_rule = || {
            cluster.act_as_rules.iter().any(|rule| {
                let caller_fits = glob::any(&rule.users, &principal.user)
                    || principal
                        .groups
                        .iter()
                        .any(|group| glob::any(&rule.groups, group));
                caller_fits && glob::any(&rule.names, user)
            })
        };
        user == principal.user || self.is_admin(principal) || by_rule()
    }
}

fn not_allowed(principal: &Principal, user: &str) -> ApiError {
    // Livy's sentence, without its Scala accent.
    ApiError::new(
        Code::Forbidden,
        format!(
            "User '{}' not allowed to impersonate '{user}'.",
            principal.user
        ),
    )
}

/// Takes every spelling of an effective user out of a submission.
pub fn take_claims(spec: &mut BatchSpec, do_as: Option<&str>) -> Vec<String> {
    let in_conf = PROXY_USER_KEYS
        .into_iter()
        .filter_map(|key| spec.conf.remove(key))
        .collect::<Vec<_>>();
    let claims = do_as
        .map(str::to_owned)
        .into_iter()
        .chain(spec.proxy_user.take())
        .chain(in_conf);
    claims.filter(|user| !user.is_empty()).collect()
}
