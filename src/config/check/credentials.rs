//! `credentials`: exactly one kind, one that the flavor takes, with everything that it needs.

use super::*;

/// Where IBM Cloud gives tokens (its documented production endpoint).
const IBM_IAM: &str = "https://iam.cloud.ibm.com/identity/token";

const READ_ON_THE_WAY: &str = "secrets and tokens sent without TLS can be read on the way";

impl Checker<'_> {
    pub(super) fn credentials(
        &mut self,
        raw: Option<RawCredentials>,
        flavor: Flavor,
        base: Option<&BaseUrl>,
    ) -> Credentials {
        let Some(raw) = raw else {
            // The others can stand open inside a cluster; this one never does.
            if flavor == Flavor::Ibm {
                self.report(
                    "ibm can't work without credentials",
                    "add `credentials: {ibm_iam: {apikey: {file: ...}}}`",
                );
            }
            return Credentials::None;
        };
        let given = [
            raw.basic.is_some(),
            raw.bearer.is_some(),
            raw.ibm_iam.is_some(),
            raw.oauth2.is_some(),
            raw.kerberos.is_some(),
            raw.passthrough.is_some(),
        ];
        match given.into_iter().filter(|given| *given).count() {
            1 => {}
            // Its one key is unknown, and was reported as that.
            0 if !self.keys_in_file().is_empty() => return Credentials::None,
            _ => {
                self.report(
                    "credentials are exactly one kind",
                    "keep one of `basic`, `bearer`, `ibm_iam`, `oauth2`, `kerberos` and `passthrough`",
                );
                return Credentials::None;
            }
        }
        self.one_kind(raw, flavor, base)
    }

    fn one_kind(
        &mut self,
        raw: RawCredentials,
        flavor: Flavor,
        base: Option<&BaseUrl>,
    ) -> Credentials {
        if let Some(basic) = raw.basic {
            if flavor == Flavor::Ibm {
                self.report(
                    "ibm takes no basic credentials",
                    "use `ibm_iam: {apikey: {file: ...}}`",
                );
                return Credentials::None;
            }
            return self.within("basic", |c| c.basic_credentials(basic));
        }
        if let Some(bearer) = raw.bearer {
            return self.within("bearer", |c| c.bearer_credentials(bearer));
        }
        let made = match (raw.ibm_iam, raw.oauth2, raw.kerberos) {
            (Some(iam), ..) => self.within("ibm_iam", |c| c.ibm_iam(iam)),
            (_, Some(oauth2), _) => self.within("oauth2", |c| c.oauth2(oauth2)),
            (.., Some(kerberos)) => {
                self.within("kerberos", |c| c.kerberos(kerberos, flavor, base?))
            }
            (None, None, None) => Some(Credentials::Passthrough),
        };
        made.unwrap_or(Credentials::None)
    }

    fn basic_credentials(&mut self, raw: RawBasicCredentials) -> Credentials {
        let username = raw.username.unwrap_or_default();
        if username.contains(':') {
            self.within("username", |c| {
                c.report(
                    "a user name can't hold a colon",
                    "RFC 7617: the first colon ends the name",
                )
            });
        }
        Credentials::Basic {
            username,
            password: self.kept_secret("password", raw.password),
        }
    }

    fn bearer_credentials(&mut self, raw: RawBearerCredentials) -> Credentials {
        let token = self.kept_secret("token", raw.token);
        let text = secrecy::ExposeSecret::expose_secret(&token.text);
        if !text.trim().bytes().all(|byte| byte.is_ascii_graphic()) {
            self.within("token", |c| {
                c.report(
                    "the token holds what no header can carry, such as a space or a line break",
                    "put one token there and nothing else",
                )
            });
        }
        Credentials::Bearer(token)
    }

    fn ibm_iam(&mut self, raw: RawIbmIam) -> Option<Credentials> {
        let apikey = self.kept_secret("apikey", raw.apikey);
        let url = raw.url.unwrap_or_else(|| IBM_IAM.to_owned());
        let mut uri = self.within("url", |c| c.guarded_url(&url, READ_ON_THE_WAY))?;
        // IBM's own tools are given the URL without its path.
        if uri.path() == "/" && uri.query().is_none() {
            uri = format!("{}/identity/token", url.trim_end_matches('/'))
                .parse()
                .ok()?;
        }
        Some(Credentials::IbmIam {
            apikey,
            endpoint: self.token_endpoint(uri, raw.ca_file),
        })
    }

    fn oauth2(&mut self, raw: RawOAuth2) -> Option<Credentials> {
        let client_secret = self.kept_secret("client_secret", raw.client_secret);
        // A key that is missing was reported as that.
        let token_url = raw.token_url?;
        let uri = self.within("token_url", |c| c.guarded_url(&token_url, READ_ON_THE_WAY))?;
        Some(Credentials::OAuth2(Box::new(OAuth2 {
            endpoint: self.token_endpoint(uri, raw.ca_file),
            client_id: raw.client_id.unwrap_or_default(),
            client_secret,
            scope: raw.scope,
            client_auth_basic: raw.client_auth == Some(RawClientAuth::Basic),
        })))
    }

    fn kerberos(
        &mut self,
        raw: RawKerberos,
        flavor: Flavor,
        base: &BaseUrl,
    ) -> Option<Credentials> {
        if flavor == Flavor::Ibm {
            self.report(
                "ibm knows no Kerberos",
                "use `ibm_iam: {apikey: {file: ...}}`",
            );
        }
        if !cfg!(feature = "kerberos") {
            self.report(
                "this binary was built without Kerberos",
                "build it with `cargo build --release --features kerberos` (docs/credentials.md)",
            );
            return None;
        }
        // A key that is missing was reported as that.
        let (principal, keytab) = (raw.principal?, raw.keytab?);
        self.is_principal("principal", &principal);
        let spn = raw
            .spn
            .unwrap_or_else(|| format!("HTTP@{}", base.authority.host()));
        self.is_principal("spn", &spn);
        Some(Credentials::Kerberos(Box::new(Kerberos {
            principal,
            keytab: self.file(&keytab),
            spn,
        })))
    }

    fn is_principal(&mut self, key: &str, text: &str) {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            let remedy = match key {
                "spn" => "write `HTTP/host@REALM`, or leave it out",
                _ => "write `name@REALM`",
            };
            self.within(key, |c| {
                c.report(format!("{text:?} is no principal"), remedy)
            });
        }
    }

    fn token_endpoint(&mut self, url: http::Uri, ca_file: Option<String>) -> TokenEndpoint {
        if ca_file.is_some() && url.scheme_str() != Some("https") {
            self.within("ca_file", |c| {
                c.report(
                    "the token endpoint is http, so there is no TLS to verify",
                    "remove `ca_file`, or write `https://`",
                )
            });
        }
        TokenEndpoint {
            url,
            ca_file: ca_file.map(|path| self.file(&path)),
        }
    }

    /// A caller's token can only be passed on where callers come with tokens.
    pub(super) fn passthrough_needs_tokens(
        &mut self,
        clusters: &[Cluster],
        callers: &[Authenticator],
    ) {
        let take_tokens = callers
            .iter()
            .any(|one| matches!(one.kind, AuthenticatorKind::Jwt(_)));
        let passing = clusters
            .iter()
            .filter(|cluster| matches!(cluster.credentials, Credentials::Passthrough));
        for cluster in passing.filter(|_| !take_tokens) {
            self.path = ["clusters", &cluster.name, "credentials", "passthrough"]
                .map(|key| Step::Key(key.to_owned()))
                .to_vec();
            self.report(
                "no authenticator takes bearer tokens, so no caller has one to pass on",
                "add an authenticator of kind `jwt`, or give the gateway a login of its own",
            );
            self.path.clear();
        }
    }
}
