//! `ETag` and `If-None-Match`: has what a client knows changed?
//!
//! A tag is a digest of who asks and of the body that they are shown. So it is the same in every
//! replica, says nothing that the body does not, and is of use to nobody else: two users who are
//! shown the same have different tags.

use aws_lc_rs::digest::{Context, SHA256};
use http::HeaderMap;
use http::header::IF_NONE_MATCH;

/// Bytes of the digest that are shown: nobody meets two bodies with the same 96 bits by chance.
const SHOWN: usize = 12;

/// The tag of one body for one user, with its quotes. Strong: the same tag, the same bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag(String);

impl Tag {
    /// Makes the tag.
    pub fn of(user: &str, body: &[u8]) -> Tag {
        let mut context = Context::new(&SHA256);
        // The length keeps apart what would read the same one behind the other.
        context.update(&user.len().to_be_bytes());
        context.update(user.as_bytes());
        context.update(body);
        let mut tag = String::with_capacity(2 * SHOWN + 2);
        tag.push('"');
        for byte in &context.finish().as_ref()[..SHOWN] {
            for half in [byte >> 4, byte & 15] {
                tag.push(char::from_digit(half.into(), 16).unwrap_or('0'));
            }
        }
        tag.push('"');
        Tag(tag)
    }

    /// Returns it as a header has it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a client says that it has (RFC 9110, 13.1.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Has {
    anything: bool,
    tags: Vec<String>,
}

impl Has {
    /// Reads `If-None-Match`; what is no tag matches none.
    pub fn read(headers: &HeaderMap) -> Has {
        let mut has = Has::default();
        for value in headers.get_all(IF_NONE_MATCH) {
            // Tags of this gateway hold no commas; a foreign one that does is in pieces, and those
            // match nothing.
            for word in value.to_str().unwrap_or_default().split(',') {
                match word.trim() {
                    "" => {}
                    "*" => has.anything = true,
                    // Compared weakly: a front that compresses makes a strong tag weak.
                    tag => has
                        .tags
                        .push(tag.strip_prefix("W/").unwrap_or(tag).to_owned()),
                }
            }
        }
        has
    }

    /// Tells whether it says nothing.
    pub fn is_nothing(&self) -> bool {
        !self.anything && self.tags.is_empty()
    }

    /// Tells whether the client has this.
    pub fn has(&self, tag: &Tag) -> bool {
        self.anything || self.tags.contains(&tag.0)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn has(values: &[&str]) -> Has {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(IF_NONE_MATCH, HeaderValue::from_str(value).expect("is one"));
        }
        Has::read(&headers)
    }

    #[test]
    fn a_tag_is_of_one_user_and_one_body() {
        let tag = Tag::of("ann", b"{}");
        assert_eq!(tag, Tag::of("ann", b"{}"));
        assert_ne!(tag, Tag::of("bob", b"{}"));
        assert_ne!(tag, Tag::of("ann", b"[]"));
        assert_ne!(Tag::of("an", b"n{}"), tag);
        assert_eq!(tag.as_str().len(), 26, "{}", tag.as_str());
    }

    #[test]
    fn tags_are_found_however_they_are_listed() {
        let tag = Tag::of("ann", b"{}");
        let own = tag.as_str();
        for values in [
            vec![own.to_owned()],
            vec![format!("W/{own}")],
            vec![format!("\"x\" , {own}")],
            vec!["\"x\"".to_owned(), own.to_owned()],
            vec!["*".to_owned()],
        ] {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            assert!(has(&values).has(&tag), "{values:?}");
        }
        let bare = own.trim_matches('"');
        for values in [vec![], vec!["\"x\""], vec![bare], vec![", ,"]] {
            assert!(!has(&values).has(&tag), "{values:?}");
        }
        assert!(has(&[]).is_nothing() && has(&[","]).is_nothing() && !has(&["*"]).is_nothing());
    }
}
