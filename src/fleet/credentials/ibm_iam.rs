//! `ibm_iam`: an API key for a token of IBM Cloud IAM
//! (<https://cloud.ibm.com/apidocs/iam-identity-token-api#gettoken-apikey>).

use secrecy::ExposeSecret as _;

use super::grant::{Form, Grant};
use super::kept::Kept;

#[derive(Debug)]
pub(super) struct IbmIam {
    apikey: Kept,
}

impl IbmIam {
    pub(super) fn new(apikey: Kept) -> Self {
        IbmIam { apikey }
    }
}

impl Grant for IbmIam {
    fn kind(&self) -> &'static str {
        "ibm_iam"
    }

    fn form(&self) -> Form {
        let apikey = self.apikey.current().0.expose_secret().trim().to_owned();
        Form {
            fields: vec![
                (
                    "grant_type",
                    "urn:ibm:params:oauth:grant-type:apikey".to_owned(),
                ),
                ("apikey", apikey.clone()),
            ],
            authorization: None,
            secrets: vec![apikey],
        }
    }

    fn secret(&self) -> &Kept {
        &self.apikey
    }
}
