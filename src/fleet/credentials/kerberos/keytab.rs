//! Looks into a keytab for its principals, so that a wrong one is told before it is used. Format:
//! MIT Kerberos, `doc/formats/keytab_file_format.rst`, version 2.

/// Tells why a keytab can't be used by a principal. Reads no key.
pub(super) fn check(content: &[u8], principal: &str) -> Result<(), String> {
    let found = principals(content).ok_or("it is no keytab")?;
    // Without a realm krb5.conf's is meant.
    let fits = |one: &&String| match principal.contains('@') {
        true => one.as_str() == principal,
        false => one
            .rsplit_once('@')
            .is_some_and(|(name, _)| name == principal),
    };
    if found.iter().any(|one| fits(&one)) {
        return Ok(());
    }
    let mut others = found;
    others.sort();
    others.dedup();
    Err(match others.is_empty() {
        true => format!("it holds no key of {principal}, nor any other"),
        false => format!(
            "it holds no key of {principal}, but of {}",
            others.join(", ")
        ),
    })
}

/// Returns every principal; `None` if this is no keytab, or breaks off.
fn principals(content: &[u8]) -> Option<Vec<String>> {
    let mut rest = content.strip_prefix(&[5, 2])?;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let size = i32::from_be_bytes(take(&mut rest, 4)?.try_into().ok()?);
        let mut entry = take(&mut rest, usize::try_from(size.unsigned_abs()).ok()?)?;
        // A negative size is the place of an entry that was removed.
        if size > 0 {
            found.push(principal(&mut entry)?);
        }
    }
    Some(found)
}

fn principal(entry: &mut &[u8]) -> Option<String> {
    let count = number(entry)?;
    let realm = text(entry)?;
    let parts: Option<Vec<String>> = (0..count).map(|_| text(entry)).collect();
    Some(format!("{}@{realm}", parts?.join("/")))
}

fn number(rest: &mut &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(take(rest, 2)?.try_into().ok()?))
}

fn text(rest: &mut &[u8]) -> Option<String> {
    let size = number(rest)?;
    String::from_utf8(take(rest, size.into())?.to_vec()).ok()
}

fn take<'a>(rest: &mut &'a [u8], size: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(size)?;
    *rest = left;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An entry as MIT Kerberos writes it, with a key of nothing.
    fn entry(parts: &[&str], realm: &str) -> Vec<u8> {
        let sized = |text: &str| {
            let size = u16::try_from(text.len()).expect("short").to_be_bytes();
            [&size, text.as_bytes()].concat()
        };
        let count = u16::try_from(parts.len()).expect("few").to_be_bytes();
        let names = parts.iter().flat_map(|part| sized(part));
        let mut entry = [count.to_vec(), sized(realm), names.collect()].concat();
        entry.extend([0, 0, 0, 1, 0, 0, 0, 0, 2, 0, 18, 0, 2, 7, 7]);
        let size = i32::try_from(entry.len()).expect("short").to_be_bytes();
        [size.to_vec(), entry].concat()
    }

    fn keytab(entries: &[Vec<u8>]) -> Vec<u8> {
        [vec![5, 2], entries.concat()].concat()
    }

    #[test]
    fn the_principals_keys_must_be_there() {
        let hole = [(-3_i32).to_be_bytes().to_vec(), vec![1, 2, 3]].concat();
        let both = keytab(&[entry(&["gw"], "R"), hole, entry(&["HTTP", "h"], "R")]);
        for principal in ["gw@R", "gw", "HTTP/h@R"] {
            assert_eq!(check(&both, principal), Ok(()), "{principal}");
        }
        assert_eq!(
            check(&both, "gw@S"),
            Err("it holds no key of gw@S, but of HTTP/h@R, gw@R".into())
        );
        let none = "it holds no key of gw, nor any other";
        assert_eq!(check(&[5, 2], "gw"), Err(none.into()));
    }

    #[test]
    fn what_is_no_keytab_or_breaks_off_is_told() {
        let whole = keytab(&[entry(&["gw"], "R")]);
        for size in (0..whole.len()).filter(|size| *size != 2) {
            assert_eq!(check(&whole[..size], "gw"), Err("it is no keytab".into()));
        }
        assert!(check(b"gw@R secret", "gw").is_err());
    }
}
