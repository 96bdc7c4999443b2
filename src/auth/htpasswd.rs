//! Password files as Apache httpd writes them, and the check of one password against one hash.
//!
//! bcrypt (`$2a$ $2b$ $2y$`), argon2 (`$argon2id$ $argon2i$ $argon2d$`), sha-crypt (`$5$ $6$`),
//! apr1 (`$apr1$`) and `{SHA}`. Plain text and DES crypt are refused when the file is read. A hash
//! that asks for more work than a login should cost is refused there too: hashes come from files,
//! but files come from people.

use std::collections::HashMap;

use argon2::PasswordVerifier as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use subtle::ConstantTimeEq as _;

/// bcrypt's cost doubles the time each step; 16 is about four seconds.
const MAX_BCRYPT_COST: u32 = 16;
/// sha-crypt's default is 5,000 rounds.
const MAX_SHA_ROUNDS: u32 = 1_000_000;
/// argon2's memory, in KiB.
const MAX_ARGON2_KIB: u32 = 256 * 1024;
/// argon2's passes.
const MAX_ARGON2_PASSES: u32 = 16;

/// One stored hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hash {
    /// bcrypt, as written.
    Bcrypt(String),
    /// argon2, as written.
    Argon2(String),
    /// SHA-256 or SHA-512 crypt, as written.
    ShaCrypt(String),
    /// Apache's MD5 crypt, as written.
    Apr1(String),
    /// Unsalted SHA-1, base64.
    Sha1(String),
}

impl Hash {
    /// Reads a hash.
    ///
    /// # Errors
    /// Why it can't be used; never with the text itself, which may be a password in clear.
    pub fn parse(text: &str) -> Result<Hash, String> {
        let owned = text.to_owned();
        if ["$2a$", "$2b$", "$2y$", "$2x$"]
            .iter()
            .any(|prefix| text.starts_with(prefix))
        {
            let cost: u32 = text
                .get(4..6)
                .and_then(|cost| cost.parse().ok())
                .ok_or("a bcrypt hash without a cost")?;
            return match cost {
                4..=MAX_BCRYPT_COST if text.len() == 60 && text.is_ascii() => {
                    Ok(Hash::Bcrypt(owned))
                }
                4..=MAX_BCRYPT_COST => Err("a bcrypt hash that is not 60 characters long".into()),
                _ => Err(format!(
                    "bcrypt cost {cost}; 4 to {MAX_BCRYPT_COST} are accepted"
                )),
            };
        }
        if text.starts_with("$argon2") {
            let hash =
                argon2::PasswordHash::new(text).map_err(|_| "an argon2 hash that can't be read")?;
            let params = argon2::Params::try_from(&hash)
                .map_err(|_| "argon2 parameters that can't be read")?;
            if params.m_cost() > MAX_ARGON2_KIB || params.t_cost() > MAX_ARGON2_PASSES {
                return Err(format!(
                    "argon2 with more than {MAX_ARGON2_KIB} KiB or {MAX_ARGON2_PASSES} passes"
                ));
            }
            return Ok(Hash::Argon2(owned));
        }
        if text.starts_with("$5$") || text.starts_with("$6$") {
            let rounds = text[3..]
                .strip_prefix("rounds=")
                .and_then(|rest| rest.split('$').next()?.parse::<u32>().ok());
            return match rounds {
                Some(rounds) if rounds > MAX_SHA_ROUNDS => Err(format!(
                    "sha-crypt with {rounds} rounds; {MAX_SHA_ROUNDS} are the most"
                )),
                _ => Ok(Hash::ShaCrypt(owned)),
            };
        }
        if text.starts_with("$apr1$") {
            return if text.split('$').count() == 4 {
                Ok(Hash::Apr1(owned))
            } else {
                Err("an apr1 hash that can't be read".into())
            };
        }
        if let Some(digest) = text.strip_prefix("{SHA}") {
            return match STANDARD.decode(digest) {
                Ok(bytes) if bytes.len() == 20 => Ok(Hash::Sha1(digest.to_owned())),
                _ => Err("a {SHA} hash that is no base64 of 20 bytes".into()),
            };
        }
        Err("plain text or an unknown hash; make the line with `htpasswd -B`".into())
    }

    /// Tells whether the password fits. Slow by intent; never call it on an async thread.
    pub fn verify(&self, password: &str) -> bool {
        match self {
            Hash::Bcrypt(text) => bcrypt::verify(password, text).unwrap_or(false),
            Hash::Argon2(text) => argon2::PasswordHash::new(text).is_ok_and(|hash| {
                argon2::Argon2::default()
                    .verify_password(password.as_bytes(), &hash)
                    .is_ok()
            }),
            Hash::ShaCrypt(text) => sha_crypt_fits(text, password),
            Hash::Apr1(text) => {
                apr1_of(text, password).is_some_and(|computed| same(&computed, text))
            }
            Hash::Sha1(text) => {
                let digest = aws_lc_rs::digest::digest(
                    &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY,
                    password.as_bytes(),
                );
                same(&STANDARD.encode(digest.as_ref()), text)
            }
        }
    }

    /// Returns what the work depends on: two hashes of one class take the same time.
    fn cost_class(&self) -> String {
        let head =
            |text: &str, fields: usize| text.split('$').take(fields).collect::<Vec<_>>().join("$");
        match self {
            Hash::Bcrypt(text) => format!("bcrypt {}", text.get(4..6).unwrap_or_default()),
            Hash::Argon2(text) => head(text, 4),
            Hash::ShaCrypt(text) if text[3..].starts_with("rounds=") => head(text, 3),
            Hash::ShaCrypt(text) => head(text, 2),
            Hash::Apr1(_) => "apr1".into(),
            Hash::Sha1(_) => "sha1".into(),
        }
    }
}

fn same(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

fn sha_crypt_fits(text: &str, password: &str) -> bool {
    use sha_crypt::{PasswordVerifier as _, ShaCrypt};
    let checker = if text.starts_with("$5$") {
        ShaCrypt::SHA256
    } else {
        ShaCrypt::SHA512
    };
    checker.verify_password(password.as_bytes(), text).is_ok()
}

/// Computes `$apr1$salt$digest` (`apr_md5_encode` in Apache's apr-util: 1000 rounds of MD5).
fn apr1_of(stored: &str, password: &str) -> Option<String> {
    let salt = stored.strip_prefix("$apr1$")?.split('$').next()?;
    let (pass, salt_bytes) = (password.as_bytes(), salt.as_bytes());
    let inner = Md5::new()
        .chain_update(pass)
        .chain_update(salt_bytes)
        .chain_update(pass)
        .finalize();
    let mut first = Md5::new()
        .chain_update(pass)
        .chain_update("$apr1$")
        .chain_update(salt_bytes);
    for at in (0..pass.len()).step_by(16) {
        first.update(&inner[..(pass.len() - at).min(16)]);
    }
    let mut bits = pass.len();
    while bits > 0 {
        first.update(if bits & 1 == 1 { &[0][..] } else { &pass[..1] });
        bits >>= 1;
    }
    let mut digest = first.finalize();
    for round in 0..1000 {
        let mut next = Md5::new();
        if round & 1 == 1 {
            next.update(pass)
        } else {
            next.update(digest)
        }
        if round % 3 != 0 {
            next.update(salt_bytes);
        }
        if round % 7 != 0 {
            next.update(pass);
        }
        if round & 1 == 1 {
            next.update(digest)
        } else {
            next.update(pass)
        }
        digest = next.finalize();
    }
    let word = |a: usize, b: usize, c: usize| {
        u32::from(digest[a]) << 16 | u32::from(digest[b]) << 8 | u32::from(digest[c])
    };
    let mut out = format!("$apr1${salt}$");
    for (value, length) in [
        (word(0, 6, 12), 4),
        (word(1, 7, 13), 4),
        (word(2, 8, 14), 4),
        (word(3, 9, 15), 4),
        (word(4, 10, 5), 4),
        (u32::from(digest[11]), 2),
    ] {
        const ALPHABET: &[u8; 64] =
            b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        out.extend(
            (0..length).map(|step| char::from(ALPHABET[(value >> (6 * step) & 0x3f) as usize])),
        );
    }
    Some(out)
}

/// A password file.
#[derive(Debug, Default)]
pub struct Htpasswd {
    users: HashMap<String, Hash>,
    /// One hash of each cost class in the file.
    classes: Vec<(String, Hash)>,
}

impl Htpasswd {
    /// Reads a file's text.
    ///
    /// # Errors
    /// Every bad line, with its number.
    pub fn parse(text: &str) -> Result<Htpasswd, Vec<String>> {
        let mut file = Htpasswd::default();
        let mut faults = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let number = at + 1;
            match line
                .split_once(':')
                .map(|(user, hash)| (user, Hash::parse(hash)))
            {
                None | Some(("", _)) => faults.push(format!("line {number} is not `user:hash`")),
                Some((user, Err(why))) => {
                    faults.push(format!("line {number} (user {user:?}): {why}"))
                }
                Some((user, Ok(hash))) => {
                    let class = hash.cost_class();
                    if !file.classes.iter().any(|(known, _)| *known == class) {
                        file.classes.push((class, hash.clone()));
                    }
                    if file.users.insert(user.to_owned(), hash).is_some() {
                        faults.push(format!("line {number}: a second line for user {user:?}"));
                    }
                }
            }
        }
        if faults.is_empty() && file.users.is_empty() {
            faults.push("there is no user in it".to_owned());
        }
        if faults.is_empty() {
            Ok(file)
        } else {
            Err(faults)
        }
    }

    /// Tells whether user and password fit.
    ///
    /// A failure always costs one hash of every cost class in the file, whether the user exists or
    /// not and whatever kind the user's own hash is: the time tells nothing about who exists.
    pub fn verify(&self, user: &str, password: &str) -> bool {
        let own = self.users.get(user);
        if own.is_some_and(|hash| hash.verify(password)) {
            return true;
        }
        for (_, decoy) in self.decoys(own) {
            std::hint::black_box(decoy.verify(password));
        }
        false
    }

    /// Returns what a failure has to compute besides the user's own hash.
    fn decoys(&self, own: Option<&Hash>) -> impl Iterator<Item = &(String, Hash)> {
        let own_class = own.map(Hash::cost_class);
        self.classes
            .iter()
            .filter(move |(class, _)| Some(class) != own_class.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with `htpasswd -b{B,m,s}`, `openssl passwd -{5,6,apr1}` and `argon2`; the password is
    /// "secret" each time.
    const KNOWN: [&str; 6] = [
        "bcrypt:$2y$05$jIpS2svITM8cAPvtSMfTT.m7zg8MjvBQKiGvLgSABAtSWv2bYo08W",
        "apr1:$apr1$nmiG1KkF$J3t3CPSN57E/hadUvECpE.",
        "sha:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=",
        "five:$5$PZd77kOkTv5qrMGD$yC9DmSEiiTu83Uk7Jx/FFlODauLhvCdt1bP0ZVQRajC",
        "six:$6$c9NG.amuZ.KN5Q.F$TABIyJZR3auz/SXvABrtUatz4dTxagjyfDvMyG05ni/qUM84NwQl7lzXnbm8h4dSzeQZZKaCyVjmQpljPkk0S0",
        "argon:$argon2id$v=19$m=4096,t=2,p=1$c29tZXNhbHQx$czr2uSRVnjJ6UtI/SzW5LRd1vVZSKeWfcTFr+BhkpeA",
    ];

    #[test]
    fn every_kind_of_hash_verifies() {
        let file = Htpasswd::parse(&KNOWN.join("\n")).expect("all lines are good");
        for user in ["bcrypt", "apr1", "sha", "five", "six", "argon"] {
            assert!(file.verify(user, "secret"), "{user}");
            assert!(!file.verify(user, "Secret"), "{user}");
        }
        assert!(!file.verify("nobody", "secret"));
        assert_eq!(file.classes.len(), 6);
    }

    #[test]
    fn a_failure_costs_the_same_whoever_exists() {
        let file = Htpasswd::parse(&KNOWN.join("\n")).expect("all lines are good");
        let all: std::collections::BTreeSet<String> = file
            .classes
            .iter()
            .map(|(class, _)| class.clone())
            .collect();
        for user in ["bcrypt", "apr1", "sha", "five", "six", "argon", "nobody"] {
            let own = file.users.get(user);
            let work: Vec<String> = own
                .map(Hash::cost_class)
                .into_iter()
                .chain(file.decoys(own).map(|(class, _)| class.clone()))
                .collect();
            assert_eq!(work.len(), all.len(), "{user}");
            assert_eq!(
                work.into_iter().collect::<std::collections::BTreeSet<_>>(),
                all,
                "{user}"
            );
        }
    }

    #[test]
    fn bad_lines_are_named_without_their_text() {
        let faults = Htpasswd::parse("# ok\n\nann:hunter2\nbob\nzed:$2y$31$aaaa\n")
            .expect_err("has bad lines");
        assert_eq!(faults.len(), 3);
        assert!(
            faults[0].starts_with("line 3 (user \"ann\"): plain text"),
            "{faults:?}"
        );
        assert!(!faults.concat().contains("hunter2"));
        assert!(faults[2].contains("bcrypt cost 31"));
    }
}
