//! The text forms of qtypes.

use std::str::FromStr as _;

use ebpf_filter::Qtypes;
use hickory_proto::rr::RecordType;

use super::{rule_problem::RuleProblem, schema};

/// What a rule's `qtype` stands for: `"ALL"` is every type, and so is the number 255, as in `DNSdist`; a mnemonic or
/// `TYPEnnn` (RFC 3597) is that one type, `"ANY"` included.
pub(super) fn parse(raw: &schema::Qtype) -> Result<Qtypes, RuleProblem> {
    let parsed = match raw {
        schema::Qtype::Number(number) => u16::try_from(*number).ok().map(Qtypes::from),
        schema::Qtype::Text(text) => parse_text(&text.to_ascii_uppercase()),
    };
    parsed.ok_or_else(|| RuleProblem::Qtype {
        value: match raw {
            schema::Qtype::Number(number) => number.to_string(),
            schema::Qtype::Text(text) => format!("{text:?}"),
        },
    })
}

fn parse_text(text: &str) -> Option<Qtypes> {
    match text {
        "ALL" => Some(Qtypes::All),
        // hickory reads these as types too, the first with a number of its own invention.
        "ANAME" | "*" => None,
        _ => {
            if let Some(number) = parse_number(text) {
                return Some(Qtypes::from(number));
            }
            if let Some(number) = text.strip_prefix("TYPE").and_then(parse_number) {
                return Some(Qtypes::Only(number));
            }
            RecordType::from_str(text).ok().map(|qtype| Qtypes::Only(qtype.into()))
        }
    }
}

/// Digits only: `parse` alone would accept a sign.
fn parse_number(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Option<Qtypes> {
        parse(&schema::Qtype::Text(text.to_owned())).ok()
    }

    fn number(number: i64) -> Option<Qtypes> {
        parse(&schema::Qtype::Number(number)).ok()
    }

    #[test]
    fn every_type_is_all_or_the_number_255() {
        for all in [text("ALL"), text("all"), number(255), text("255")] {
            assert_eq!(all, Some(Qtypes::All));
        }
    }

    #[test]
    fn any_is_a_type_like_others() {
        assert_eq!(text("ANY"), Some(Qtypes::Only(255)));
        assert_eq!(text("TYPE255"), Some(Qtypes::Only(255)));
    }

    #[test]
    fn one_type_has_three_forms() {
        for https in [text("HTTPS"), text("https"), text("TYPE65"), text("type65"), text("65"), number(65)] {
            assert_eq!(https, Some(Qtypes::Only(65)));
        }
        assert_eq!(number(0), Some(Qtypes::Only(0)));
        assert_eq!(number(65535), Some(Qtypes::Only(65535)));
    }

    #[test]
    fn the_rest_is_refused() {
        for bad in ["", "BOGUS", "TYPE", "TYPE65536", "TYPE+1", "+1", "-1", "65536", "*", "ANAME", "A "] {
            assert_eq!(text(bad), None, "{bad:?}");
        }
        assert_eq!(number(-1), None);
        assert_eq!(number(65536), None);
    }
}
