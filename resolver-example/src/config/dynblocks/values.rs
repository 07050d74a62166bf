//! The text forms of what dynamic blocks are about: times, response codes, types, clients and names.

use std::{net::IpAddr, time::Duration};

use ebpf_filter::{QName, Qtypes, dynblock::Subject};
use hickory_proto::op::ResponseCode;
use ipnet::IpNet;
use toml::{Spanned, Value};

use super::{
    super::{qtype, schema::Qtype},
    problem::DynBlocksProblem,
    schema::Rcode,
};

/// The highest response code: four bits in the header, eight in the OPT record (RFC 6891 §6.1.3).
const MAX_RCODE: u16 = 0xfff;

/// The same value, or what is wrong, at the same place.
pub(super) fn at<T, U>(
    value: &Spanned<T>,
    parse: impl FnOnce(&T) -> Result<U, DynBlocksProblem>,
) -> Result<U, Spanned<DynBlocksProblem>> {
    parse(value.get_ref()).map_err(|problem| Spanned::new(value.span(), problem))
}

/// Numbers with units, such as `"1m30s"`.
pub(super) fn time(key: &'static str, value: &Spanned<Value>) -> Result<Duration, Spanned<DynBlocksProblem>> {
    at(value, |value| {
        let problem = |reason| DynBlocksProblem::Time { key, value: value.to_string(), reason };
        let text = value.as_str().ok_or_else(|| problem(None))?;
        humantime::parse_duration(text).map_err(|reason| problem(Some(Box::new(reason))))
    })
}

/// `"NXDOMAIN"` or 3.
pub(super) fn rcode(raw: &Rcode) -> Result<u16, DynBlocksProblem> {
    let (parsed, value) = match raw {
        Rcode::Number(number) => (u16::try_from(*number).ok(), number.to_string()),
        Rcode::Text(text) => (rcode_named(text), format!("{text:?}")),
    };
    parsed.filter(|code| *code <= MAX_RCODE).ok_or(DynBlocksProblem::Rcode { value })
}

fn rcode_named(text: &str) -> Option<u16> {
    if text.contains('(') {
        return None;
    }
    // The same number as BADSIG, and the only one of the two that a server answers queries with.
    if text.eq_ignore_ascii_case("BADVERS") {
        return Some(16);
    }
    // Those without a name are `Unknown(11)`.
    (0_u16..=23)
        .find(|&code| format!("{:?}", <ResponseCode as From<u16>>::from(code)).eq_ignore_ascii_case(text))
}

/// One type. The number 255 is ANY here: there is another kind of rule for all types.
pub(super) fn one_qtype(raw: &Qtype) -> Result<u16, DynBlocksProblem> {
    let problem = || DynBlocksProblem::Qtype {
        value: match raw {
            Qtype::Number(number) => number.to_string(),
            Qtype::Text(text) => format!("{text:?}"),
        },
    };
    match (raw, qtype::parse(raw)) {
        (Qtype::Text(text), _) if text.eq_ignore_ascii_case("ALL") => Err(problem()),
        (_, Ok(Qtypes::Only(number))) => Ok(number),
        (_, Ok(Qtypes::All)) => Ok(255),
        (_, Err(_)) => Err(problem()),
    }
}

/// An address is a range of one. An IPv4 range in IPv6 form is what packets carry: IPv4.
pub(super) fn clients(text: &str) -> Result<IpNet, DynBlocksProblem> {
    let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    match net.map(Subject::range) {
        Ok(Subject::Source(net)) => Ok(net),
        Ok(_) | Err(_) => Err(DynBlocksProblem::Clients { value: text.to_owned() }),
    }
}

/// A name with all names below it.
pub(super) fn suffix(text: &str) -> Result<QName, DynBlocksProblem> {
    let value = text.to_owned();
    if text == "*" || text.starts_with("*.") {
        return Err(DynBlocksProblem::Wildcard { value });
    }
    text.parse().map_err(|reason| DynBlocksProblem::Name { value, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Option<u16> {
        rcode(&Rcode::Text(text.to_owned())).ok()
    }

    #[test]
    fn response_codes_have_names_and_numbers() {
        for (text, code) in [
            ("NOERROR", 0),
            ("FORMERR", 1),
            ("SERVFAIL", 2),
            ("NXDOMAIN", 3),
            ("nxdomain", 3),
            ("NOTIMP", 4),
            ("REFUSED", 5),
            ("YXDOMAIN", 6),
            ("NXRRSET", 8),
            ("NOTZONE", 10),
            ("BADVERS", 16),
            ("BADSIG", 16),
            ("BADCOOKIE", 23),
        ] {
            assert_eq!(named(text), Some(code), "{text}");
        }
        for bad in ["", "3", "NX", "UNKNOWN(11)", "NXDOMAIN "] {
            assert_eq!(named(bad), None, "{bad:?}");
        }
        for (number, code) in [(0, Some(0)), (4095, Some(4095)), (4096, None), (-1, None)] {
            assert_eq!(rcode(&Rcode::Number(number)).ok(), code);
        }
    }

    #[test]
    fn a_type_is_one_type() {
        let text = |text: &str| one_qtype(&Qtype::Text(text.to_owned())).ok();
        assert_eq!(
            [text("A"), text("TYPE65"), text("any"), text("255")],
            [Some(1), Some(65), Some(255), Some(255)]
        );
        assert_eq!(one_qtype(&Qtype::Number(255)).ok(), Some(255));
        assert_eq!([text("ALL"), text("all"), text("BOGUS")], [None; 3]);
    }

    #[test]
    fn clients_are_addresses_and_ranges() {
        for (text, net) in [
            ("192.0.2.7", "192.0.2.7/32"),
            ("192.0.2.7/24", "192.0.2.0/24"),
            ("2001:db8::1", "2001:db8::1/128"),
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ] {
            assert_eq!(clients(text).unwrap().to_string(), net);
        }
        assert!(clients("a.test").is_err());
    }
}
