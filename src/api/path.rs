//! From a path to what it names: base paths, pinned clusters, ids and names.
//!
//! A trailing slash is the same resource and `//` is one slash. Nothing is ever redirected. A
//! segment is decoded after the path was split, so `%2F` stays inside a name.

use livy_dialect::Operation;

use super::error::{ApiError, Code};

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// `/batches`
    Batches,
    /// `/batches/{id}`
    Batch(BatchKey),
    /// `/batches/{id}/state`
    State(BatchKey),
    /// `/batches/{id}/log`
    Log(BatchKey),
    /// `/version`
    Version,
    /// `/sessions` and all below.
    Sessions,
    /// A base path itself.
    Root,
    /// Nothing that is served.
    Unknown,
}

/// A batch as clients name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchKey {
    /// By id; every id, also one that can't exist.
    Id(i32),
    /// By name.
    Name(String),
}

impl std::fmt::Display for BatchKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BatchKey::Id(id) => id.fmt(f),
            BatchKey::Name(name) => name.fmt(f),
        }
    }
}

/// A path that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What it names.
    pub resource: Resource,
    /// The cluster of `/clusters/{name}/...`.
    pub cluster: Option<String>,
    /// What stood before `/batches`, for `Location`: the client's own prefix.
    pub prefix: String,
}

/// The base paths, split.
#[derive(Clone, Debug)]
pub struct BasePaths(Vec<Vec<String>>);

impl BasePaths {
    /// Splits configured base paths; `{name}` stands for any one segment.
    pub fn new(paths: &[String]) -> Self {
        let split = |path: &String| {
            path.split('/')
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect()
        };
        BasePaths(paths.iter().map(split).collect())
    }

    /// Understands a path.
    ///
    /// # Errors
    /// 400 for a path that has no meaning: broken escapes, path parameters, an id past 32 bits.
    pub fn resolve(&self, path: &str) -> Result<Place, ApiError> {
        if path.contains(';') {
            // What a parameter means differs between the servers behind; none of them needs one.
            return Err(ApiError::new(
                Code::BadRequest,
                "path parameters (';') are not read here",
            ));
        }
        let raw: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let segments = raw
            .iter()
            .map(|part| decode(part))
            .collect::<Result<Vec<_>, _>>()?;
        let mut place = Place {
            resource: Resource::Unknown,
            cluster: None,
            prefix: String::new(),
        };
        for base in &self.0 {
            let fits = base.len() <= segments.len()
                && base
                    .iter()
                    .zip(&segments)
                    .all(|(want, is)| want.starts_with('{') || want == is);
            if !fits {
                continue;
            }
            let mut rest = &segments[base.len()..];
            let mut depth = base.len();
            let mut cluster = None;
            if let [first, name, inner @ ..] = rest
                && first == "clusters"
            {
                (cluster, rest, depth) = (Some(name.clone()), inner, depth + 2);
            }
            let resource = resource(rest)?;
            let known = !matches!(resource, Resource::Unknown | Resource::Root);
            if known
                || matches!(
                    (&place.resource, &resource),
                    (Resource::Unknown, Resource::Root)
                )
            {
                let prefix = raw[..depth].iter().map(|part| format!("/{part}")).collect();
                place = Place {
                    resource,
                    cluster,
                    prefix,
                };
            }
            if known {
                break;
            }
        }
        Ok(place)
    }
}

fn decode(part: &str) -> Result<String, ApiError> {
    let text = percent_encoding::percent_decode_str(part).decode_utf8();
    text.map(|text| text.into_owned())
        .map_err(|_| ApiError::new(Code::BadRequest, "the path is not UTF-8"))
}

fn resource(rest: &[String]) -> Result<Resource, ApiError> {
    let words: Vec<&str> = rest.iter().map(String::as_str).collect();
    Ok(match words.as_slice() {
        [] => Resource::Root,
        ["batches"] => Resource::Batches,
        ["batches", key] => Resource::Batch(batch_key(key)?),
        ["batches", key, "state"] => Resource::State(batch_key(key)?),
        ["batches", key, "log"] => Resource::Log(batch_key(key)?),
        ["version"] => Resource::Version,
        ["sessions", ..] => Resource::Sessions,
        _ => Resource::Unknown,
    })
}

fn batch_key(text: &str) -> Result<BatchKey, ApiError> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(BatchKey::Name(text.to_owned()));
    }
    // Livy's own words for it (`Integer.parseInt`).
    text.parse()
        .map(BatchKey::Id)
        .map_err(|_| ApiError::new(Code::BadRequest, format!("For input string: \"{text}\"")))
}

impl Resource {
    /// Returns the operation of a method here, or the methods that there are.
    ///
    /// # Errors
    /// What belongs into `Allow`.
    pub fn operation(&self, method: &http::Method) -> Result<Operation, &'static str> {
        use http::Method;
        let reads = method == Method::GET || method == Method::HEAD;
        let deletes = method == Method::DELETE;
        match self {
            Resource::Batches if reads => Ok(Operation::ListBatches),
            Resource::Batches if method == Method::POST => Ok(Operation::CreateBatch),
            Resource::Batches => Err("GET, HEAD, POST"),
            Resource::Batch(_) if reads => Ok(Operation::GetBatch),
            Resource::Batch(_) if deletes => Ok(Operation::DeleteBatch),
            Resource::Batch(_) => Err("GET, HEAD, DELETE"),
            Resource::State(_) if reads => Ok(Operation::GetState),
            Resource::Log(_) if reads => Ok(Operation::GetLog),
            Resource::Version if reads => Ok(Operation::Other),
            Resource::State(_) | Resource::Log(_) | Resource::Version => Err("GET, HEAD"),
            Resource::Root if !reads => Err("GET, HEAD"),
            Resource::Root | Resource::Sessions | Resource::Unknown => Ok(Operation::Other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &str) -> Place {
        let bases = crate::config::BASE_PATHS.map(str::to_owned);
        BasePaths::new(&bases).resolve(path).expect("has a meaning")
    }

    #[test]
    fn every_prefix_is_the_same_api() {
        for prefix in [
            "",
            "/livy",
            "/livy/v1",
            "/gateway/x/livy/v1",
            "/gateway/x/livy",
            "/v3/analytics_engines/g/livy",
            "//livy",
        ] {
            let place = at(&format!("{prefix}/batches/7/state/"));
            assert_eq!(place.resource, Resource::State(BatchKey::Id(7)), "{prefix}");
            assert_eq!(place.prefix, prefix.replace("//", "/"));
        }
        assert_eq!(at("/batches//7").resource, Resource::Batch(BatchKey::Id(7)));
    }

    #[test]
    fn pinned_clusters_are_part_of_the_prefix() {
        let place = at("/livy/clusters/onprem/batches");
        assert_eq!(
            (place.cluster.as_deref(), place.prefix.as_str()),
            (Some("onprem"), "/livy/clusters/onprem")
        );
    }

    #[test]
    fn names_and_ids_are_told_apart() {
        assert_eq!(
            at("/batches/%30").resource,
            Resource::Batch(BatchKey::Id(0))
        );
        assert_eq!(
            at("/batches/-1").resource,
            Resource::Batch(BatchKey::Id(-1))
        );
        assert_eq!(
            at("/batches/0%2Fstate").resource,
            Resource::Batch(BatchKey::Name("0/state".into()))
        );
        assert_eq!(at("/sessions/1/statements").resource, Resource::Sessions);
        assert_eq!(at("/livy").resource, Resource::Root);
        assert_eq!(at("/nowhere").resource, Resource::Unknown);
        assert_eq!(at("/batches/1/logs").resource, Resource::Unknown);
        let bases = BasePaths::new(&["/".to_owned()]);
        assert!(bases.resolve("/batches/99999999999").is_err());
        assert!(bases.resolve("/batches;x=1").is_err());
        assert!(bases.resolve("/batches/%ff").is_err());
    }
}
