//! What MIT Kerberos' errors mean for whoever configured the gateway, and whether trying again can
//! help.

use super::super::endpoint::Failure;
use super::super::schedule::Kind;
use crate::config::checked::Kerberos;

/// Where the numbers of `krb5_err.et` begin (MIT Kerberos, `src/lib/krb5/error_tables`).
const TABLE: i32 = -1_765_328_384;

/// Says what an error means; the library's own sentence stays behind it.
pub(super) fn failure(code: i32, words: &str, config: &Kerberos) -> Failure {
    let (kind, meaning) = meaning(code, config);
    let words = match meaning {
        Some(meaning) => format!("{meaning} ({words})"),
        None => words.to_owned(),
    };
    Failure {
        kind,
        words: format!("Kerberos: {words}"),
        wish: None,
    }
}

fn meaning(code: i32, config: &Kerberos) -> (Kind, Option<String>) {
    let Kerberos {
        principal,
        keytab,
        spn,
    } = config;
    let keytab = keytab.display();
    let (kind, text) = match code.wrapping_sub(TABLE) {
        1 | 18 => (
            Kind::Refused,
            format!("{principal} has expired or is locked in the KDC"),
        ),
        6 => (Kind::Refused, format!("the KDC does not know {principal}")),
        7 => (
            Kind::Refused,
            format!("the KDC knows no service {spn}: set `spn` to the cluster's own"),
        ),
        24 | 31 => (
            Kind::Refused,
            format!("the keys of {principal} in {keytab} are not the KDC's: make the keytab again"),
        ),
        37 => (
            Kind::Trouble,
            "the clocks of this machine and of the KDC differ by more than it takes, \
             five minutes by default"
                .to_owned(),
        ),
        // KRB5_REALM_CANT_RESOLVE, KRB5_REALM_UNKNOWN: of krb5.conf, not of the KDC.
        132 | 154 => (
            Kind::Trouble,
            "no KDC of the realm is known: krb5.conf or DNS must name one".to_owned(),
        ),
        156 => (
            Kind::Trouble,
            "no KDC of the realm can be reached".to_owned(),
        ),
        // MIT Kerberos looks into the keytab, and then only says that there are no tickets either.
        141 | 181 => (
            Kind::Refused,
            format!("the keytab {keytab} can't be read, or holds no key of {principal}"),
        ),
        _ => return (Kind::Trouble, None),
    };
    (kind, Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_in_words_and_from_trouble() {
        let config = Kerberos {
            principal: "gw@R".into(),
            keytab: "gw.keytab".into(),
            spn: "HTTP@h".into(),
        };
        for (code, kind, expected) in [
            (
                TABLE + 6,
                Kind::Refused,
                "Kerberos: the KDC does not know gw@R (own words)",
            ),
            (
                TABLE + 7,
                Kind::Refused,
                "Kerberos: the KDC knows no service HTTP@h: set `spn` to the cluster's own (own words)",
            ),
            (
                TABLE + 24,
                Kind::Refused,
                "Kerberos: the keys of gw@R in gw.keytab are not the KDC's: make the keytab again (own words)",
            ),
            (
                TABLE + 156,
                Kind::Trouble,
                "Kerberos: no KDC of the realm can be reached (own words)",
            ),
            (
                TABLE + 141,
                Kind::Refused,
                "Kerberos: the keytab gw.keytab can't be read, or holds no key of gw@R (own words)",
            ),
            (0, Kind::Trouble, "Kerberos: own words"),
            (i32::MAX, Kind::Trouble, "Kerberos: own words"),
        ] {
            let told = failure(code, "own words", &config);
            assert_eq!((told.kind, told.words.as_str()), (kind, expected));
        }
    }
}
