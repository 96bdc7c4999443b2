//! `{idOrName}` of a path, as `SessionServlet.doWithSession` reads it: `forall(_.isDigit)` makes it
//! a number, whose digits are Java's.

use super::shape::message;
use crate::sandbox::told::Told;

/// What a path names a batch by.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Key<'a> {
    Id(i32),
    Name(&'a str),
}

impl<'a> Key<'a> {
    /// Reads a segment of a path, percent-decoded.
    ///
    /// # Errors
    /// Livy's 400 for a number that has more than 32 bits.
    pub(super) fn read(text: &'a str) -> Result<Key<'a>, Told> {
        if !is_number(text) {
            return Ok(Key::Name(text));
        }
        // `Integer.parseInt` reads every decimal digit of Unicode, not only those of ASCII.
        let number = text
            .chars()
            .filter_map(digit)
            .try_fold(0_i32, |number, digit| {
                number.checked_mul(10)?.checked_add(digit)
            });
        number
            .map(Key::Id)
            .ok_or_else(|| message(400, &format!("For input string: \"{text}\"")))
    }
}

/// Tells whether every character is a digit to Java; so of an empty text as well. Such a name is
/// refused on creation.
pub(super) fn is_number(text: &str) -> bool {
    text.chars().all(|c| digit(c).is_some())
}

/// The zeros of Unicode's decimal digits (category Nd) in the Basic Multilingual Plane; nine more
/// follow each. Scala's `isDigit` looks at one UTF-16 unit at a time, and half of a surrogate pair
/// is no digit.
const ZEROS: [u32; 37] = [
    0x30, 0x660, 0x6F0, 0x7C0, 0x966, 0x9E6, 0xA66, 0xAE6, 0xB66, 0xBE6, 0xC66, 0xCE6, 0xD66,
    0xDE6, 0xE50, 0xED0, 0xF20, 0x1040, 0x1090, 0x17E0, 0x1810, 0x1946, 0x19D0, 0x1A80, 0x1A90,
    0x1B50, 0x1BB0, 0x1C40, 0x1C50, 0xA620, 0xA8D0, 0xA900, 0xA9D0, 0xA9F0, 0xAA50, 0xABF0, 0xFF10,
];

/// Returns the value of a decimal digit.
fn digit(c: char) -> Option<i32> {
    let code = u32::from(c);
    ZEROS
        .iter()
        .find(|zero| (**zero..**zero + 10).contains(&code))
        .and_then(|zero| i32::try_from(code - zero).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_of_any_script_make_a_number() {
        for (text, wanted) in [
            ("17", 17),
            ("007", 7),
            ("\u{661}\u{667}", 17),
            ("\u{FF11}7", 17),
            ("2147483647", i32::MAX),
        ] {
            assert_eq!(Key::read(text).ok(), Some(Key::Id(wanted)), "{text}");
        }
        assert!(Key::read("2147483648").is_err());
        assert!(is_number(""));
    }

    #[test]
    fn everything_else_is_a_name() {
        // A minus, a fraction, a Roman and a superscript number, and digits outside the first
        // plane.
        for text in [
            "-1",
            "1/2",
            "\u{2167}",
            "\u{b2}",
            "\u{1D7CF}\u{1D7D5}",
            "1a",
        ] {
            assert_eq!(Key::read(text).ok(), Some(Key::Name(text)), "{text}");
        }
    }
}
