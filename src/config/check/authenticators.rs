//! `authenticators`: exactly one kind each, keys that can be trusted, algorithms that fit them.

use super::*;

impl Checker<'_> {
    pub(super) fn authenticators(
        &mut self,
        raw: BTreeMap<String, RawAuthenticator>,
    ) -> Vec<Authenticator> {
        let mut list: Vec<Authenticator> = raw
            .into_iter()
            .filter_map(|(name, raw)| {
                let kind = self.within(&name, |c| c.authenticator(raw))?;
                let definition = self.within(&name, |c| c.definition());
                Some(Authenticator {
                    name,
                    definition,
                    kind,
                })
            })
            .collect();
        let order = self.keys_in_file();
        list.sort_by_key(|one| order.iter().position(|key| *key == one.name));
        if order.is_empty() {
            self.report(
                "no authenticator",
                "add one; `open: {anonymous: {user: guest}}` lets everybody in",
            );
        }
        list
    }

    pub(super) fn authenticator(&mut self, raw: RawAuthenticator) -> Option<AuthenticatorKind> {
        match (raw.basic, raw.jwt, raw.anonymous) {
            (Some(basic), None, None) => Some(AuthenticatorKind::Basic {
                htpasswd_file: self.file(&basic.htpasswd_file.unwrap_or_default()),
            }),
            (None, Some(jwt), None) => Some(AuthenticatorKind::Jwt(Box::new(
                self.within("jwt", |c| c.jwt(jwt)),
            ))),
            (None, None, Some(anonymous)) => {
                let user = anonymous.user.unwrap_or_default();
                if user.trim().is_empty() {
                    self.report(
                        "anonymous callers need a name",
                        "write `{anonymous: {user: guest}}`",
                    );
                }
                Some(AuthenticatorKind::Anonymous { user })
            }
            // Its one key is unknown, and was reported as that.
            (None, None, None) if !self.keys_in_file().is_empty() => None,
            _ => {
                self.report(
                    "an authenticator is exactly one of basic, jwt and anonymous",
                    "write one of them; further ones get names of their own",
                );
                None
            }
        }
    }

    pub(super) fn jwt(&mut self, raw: RawJwt) -> Jwt {
        let claims = raw.claims.unwrap_or_default();
        if raw.audiences.as_ref().is_some_and(Vec::is_empty) {
            self.within("audiences", |c| {
                c.report(
                    "no audience: every token would be refused",
                    "name at least one",
                )
            });
        }
        let uses_secret = raw.secret.is_some();
        let keys = match (raw.jwks, raw.secret) {
            (None, Some(secret)) => self.jwt_secret(secret),
            (Some(jwks), None) => self.within("jwks", |c| c.jwks(jwks)),
            _ => {
                self.report(
                    "needs exactly one of jwks and secret",
                    "write `jwks: {url: https://...}`, `jwks: {file: ...}` or `secret: {file: ...}`",
                );
                JwtKeys::Secret(SecretString::default())
            }
        };
        Jwt {
            issuer: raw.issuer.unwrap_or_default(),
            audiences: raw.audiences.unwrap_or_default(),
            keys,
            algorithms: self.within("algorithms", |c| c.algorithms(raw.algorithms, uses_secret)),
            user_claim: claims.user.unwrap_or_else(|| "sub".to_owned()),
            groups_claim: claims.groups.unwrap_or_else(|| "groups".to_owned()),
            leeway: self.duration("leeway", raw.leeway, Duration::from_secs(60)),
        }
    }

    fn jwt_secret(&mut self, raw: RawSecret) -> JwtKeys {
        let file = match &raw {
            RawSecret::Reference(SecretReference {
                file: Some(path),
                env: None,
            }) => Some(self.file(path)),
            _ => None,
        };
        let secret = self.secret("secret", Some(raw));
        let length = secrecy::ExposeSecret::expose_secret(&secret).len();
        if length > 0
            && let Err(why) = long_enough(length)
        {
            let remedy = "use 32 random bytes or more: `openssl rand -hex 32`";
            self.within("secret", |c| c.report(why, remedy));
        }
        file.map_or(JwtKeys::Secret(secret), JwtKeys::SecretFile)
    }

    pub(super) fn algorithms(
        &mut self,
        raw: Option<Vec<String>>,
        uses_secret: bool,
    ) -> Vec<jsonwebtoken::Algorithm> {
        use jsonwebtoken::Algorithm::*;
        let shared = [("HS256", HS256), ("HS384", HS384), ("HS512", HS512)];
        let public = [
            ("RS256", RS256),
            ("RS384", RS384),
            ("RS512", RS512),
            ("PS256", PS256),
            ("PS384", PS384),
            ("PS512", PS512),
            ("ES256", ES256),
            ("ES384", ES384),
            ("EdDSA", EdDSA),
        ];
        let fitting: &[(&str, jsonwebtoken::Algorithm)] =
            if uses_secret { &shared } else { &public };
        let Some(names) = raw else {
            return if uses_secret {
                vec![HS256]
            } else {
                public.iter().map(|(_, algorithm)| *algorithm).collect()
            };
        };
        let known: Vec<&str> = fitting.iter().map(|(name, _)| *name).collect();
        names
            .iter()
            .filter_map(|name| {
                let found = fitting.iter().find(|(known, _)| known == name);
                if found.is_none() {
                    let kind = if uses_secret { "a secret" } else { "a key set" };
                    self.report(
                        format!("{name:?} can't be checked with {kind}"),
                        format!("choose from {}", known.join(", ")),
                    );
                }
                found.map(|(_, algorithm)| *algorithm)
            })
            .collect()
    }

    pub(super) fn jwks(&mut self, raw: RawJwks) -> JwtKeys {
        let refresh = self.timeout("refresh", raw.refresh, Duration::from_secs(600));
        match (raw.url, raw.file) {
            (Some(url), None) => match self.within("url", |c| {
                c.guarded_url(&url, "keys fetched without TLS can be replaced on the way")
            }) {
                Some(uri) => JwtKeys::Url(uri, refresh),
                None => JwtKeys::Secret(SecretString::default()),
            },
            (None, Some(file)) => JwtKeys::File(self.file(&file)),
            _ => {
                self.report(
                    "needs exactly one of url and file",
                    "write `{url: https://...}` or `{file: keys.json}`",
                );
                JwtKeys::Secret(SecretString::default())
            }
        }
    }
}
