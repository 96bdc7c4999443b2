//! `oauth2`: client credentials (RFC 6749 section 4.4) at any token endpoint: Entra, Keycloak,
//! Okta, Databricks.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::HeaderValue;
use secrecy::ExposeSecret as _;

use super::grant::{Form, Grant, escaped};
use super::kept::Kept;
use crate::config::checked;

#[derive(Debug)]
pub(super) struct OAuth2 {
    client_id: String,
    client_secret: Kept,
    scope: Option<String>,
    in_a_header: bool,
}

impl OAuth2 {
    pub(super) fn new(config: &checked::OAuth2, client_secret: Kept) -> Self {
        OAuth2 {
            client_id: config.client_id.clone(),
            client_secret,
            scope: config.scope.clone(),
            in_a_header: config.client_auth_basic,
        }
    }
}

impl Grant for OAuth2 {
    fn kind(&self) -> &'static str {
        "oauth2"
    }

    fn form(&self) -> Form {
        let secret = self.client_secret.current().0.expose_secret().to_owned();
        let mut fields = vec![("grant_type", "client_credentials".to_owned())];
        fields.extend(self.scope.clone().map(|scope| ("scope", scope)));
        // RFC 6749 section 2.3.1: both are escaped before they become a user and a password.
        let pair = STANDARD.encode(format!("{}:{}", escaped(&self.client_id), escaped(&secret)));
        let authorization = self.in_a_header.then(|| {
            let value = HeaderValue::from_str(&format!("Basic {pair}"));
            // Base64 can stand in any header.
            let mut value = value.unwrap_or(HeaderValue::from_static(""));
            value.set_sensitive(true);
            value
        });
        if !self.in_a_header {
            fields.push(("client_id", self.client_id.clone()));
            fields.push(("client_secret", secret.clone()));
        }
        Form {
            fields,
            authorization,
            secrets: vec![secret, pair],
        }
    }

    fn secret(&self) -> &Kept {
        &self.client_secret
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::checked::{Secret, TokenEndpoint};

    fn form(client_auth_basic: bool) -> Form {
        let secret = Secret {
            text: "s:ecret".into(),
            file: None,
        };
        let config = checked::OAuth2 {
            endpoint: TokenEndpoint {
                url: http::Uri::from_static("https://x/token"),
                ca_file: None,
            },
            client_id: "id".into(),
            client_secret: secret.clone(),
            scope: Some("all".into()),
            client_auth_basic,
        };
        OAuth2::new(&config, Kept::Fixed(secret.text)).form()
    }

    #[test]
    fn name_and_secret_go_where_the_endpoint_wants_them() {
        let names = |form: &Form| {
            form.fields
                .iter()
                .map(|(name, _)| *name)
                .collect::<Vec<_>>()
        };
        let post = form(false);
        assert_eq!(
            names(&post),
            ["grant_type", "scope", "client_id", "client_secret"]
        );
        assert!(post.authorization.is_none());
        let basic = form(true);
        assert_eq!(names(&basic), ["grant_type", "scope"]);
        let expected = format!("Basic {}", STANDARD.encode("id:s%3Aecret"));
        let value = basic.authorization.expect("a login");
        assert_eq!(value.to_str().ok(), Some(expected.as_str()));
    }
}
