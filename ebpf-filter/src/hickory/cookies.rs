//! DNS cookies: who sends one back that the server has made receives packets at the source that it names.

use std::{
    fmt, io,
    net::IpAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_server::server::Request;
use siphasher::sip::SipHasher24;

/// Makes and checks server cookies ([RFC 7873], in the form of [RFC 9018]). A cookie is good for an hour at the address that it
/// was made for.
///
/// ```
/// use ebpf_filter::{BpfFilter, hickory::{Cookies, Guarded}};
/// use hickory_server::zone_handler::Catalog;
///
/// let filter = BpfFilter::builder().build()?;
/// let handler = Guarded::new(filter, Catalog::new()).with_cookies(Cookies::random()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// [RFC 7873]: https://www.rfc-editor.org/rfc/rfc7873
/// [RFC 9018]: https://www.rfc-editor.org/rfc/rfc9018
#[derive(Clone)]
pub struct Cookies {
    secret: [u8; 16],
}

impl Cookies {
    /// With a secret that nobody knows. Clients get new cookies when the server starts again.
    ///
    /// # Errors
    ///
    /// If the kernel has no random numbers: see getrandom(2).
    pub fn random() -> io::Result<Self> {
        let mut secret = [0; 16];
        // So few bytes come as a whole.
        rustix::rand::getrandom(&mut secret, rustix::rand::GetRandomFlags::empty())?;
        Ok(Self { secret })
    }

    /// With this secret: servers behind one address have to share one (RFC 9018 §5).
    pub const fn with_secret(secret: [u8; 16]) -> Self {
        Self { secret }
    }

    /// What the cookie of a request is worth.
    pub(super) fn of(&self, request: &Request) -> Cookie {
        let option = request.edns.as_ref().and_then(|edns| edns.option(EdnsCode::Cookie));
        let Some(EdnsOption::Unknown(_, bytes)) = option else { return Cookie::None };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        #[expect(clippy::cast_possible_truncation, reason = "serial numbers, RFC 1982")]
        self.judge(bytes, request.src().ip(), now as u32)
    }

    fn judge(&self, bytes: &[u8], source: IpAddr, now: u32) -> Cookie {
        // RFC 7873 §4.
        let (Some((&client, server)), 8 | 16..=40) = (bytes.split_first_chunk(), bytes.len()) else {
            return Cookie::Malformed;
        };
        let source = source.to_canonical();
        Cookie::Answered {
            valid: self.is_valid(client, server, source, now),
            answer: self.make(client, [1, 0, 0, 0], source, now),
        }
    }

    /// RFC 9018 §4.3: no older than an hour, and not from more than five minutes ahead.
    fn is_valid(&self, client: [u8; 8], server: &[u8], source: IpAddr, now: u32) -> bool {
        let Some((&head, rest)) = server.split_first_chunk::<4>() else { return false };
        let Some((&made, hash)) = rest.split_first_chunk::<4>() else { return false };
        let made = u32::from_be_bytes(made);
        let age = now.wrapping_sub(made);
        let is_fresh = age <= 3600 || age.wrapping_neg() <= 300;
        head[0] == 1 && is_fresh && hash.len() == 8 && {
            let right = self.make(client, head, source, made);
            // All of it is looked at, whatever differs first.
            right[16..].iter().zip(hash).fold(0, |all, (a, b)| all | (a ^ b)) == 0
        }
    }

    /// Client cookie, version and reserved bytes, time, hash of all these and the address.
    fn make(&self, client: [u8; 8], head: [u8; 4], source: IpAddr, time: u32) -> [u8; 24] {
        let mut cookie = [0; 24];
        cookie[..8].copy_from_slice(&client);
        cookie[8..12].copy_from_slice(&head);
        cookie[12..16].copy_from_slice(&time.to_be_bytes());
        let hasher = SipHasher24::new_with_key(&self.secret);
        let hash = match source {
            IpAddr::V4(address) => hasher.hash(&[&cookie[..16], &address.octets()].concat()),
            IpAddr::V6(address) => hasher.hash(&[&cookie[..16], &address.octets()].concat()),
        };
        cookie[16..].copy_from_slice(&hash.to_le_bytes());
        cookie
    }
}

/// Keeps the secret.
impl fmt::Debug for Cookies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cookies").finish_non_exhaustive()
    }
}

/// What a request says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cookie {
    /// Nothing, or nobody asks.
    None,
    /// It is of an impossible length.
    Malformed,
    /// There is a client cookie, and perhaps one that this server has made.
    Answered {
        valid: bool,
        /// What goes into the response.
        answer: [u8; 24],
    },
}

impl Cookie {
    pub(super) const fn is_valid(&self) -> bool {
        matches!(self, Self::Answered { valid: true, .. })
    }

    pub(super) const fn answer(&self) -> Option<[u8; 24]> {
        match self {
            Self::Answered { answer, .. } => Some(*answer),
            Self::None | Self::Malformed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: [u8; 8] = [0x24, 0x64, 0xc4, 0xab, 0xcf, 0x10, 0xc9, 0x57];
    const MADE: u32 = 1_559_731_985;

    fn cookies() -> Cookies {
        Cookies::with_secret(0xe5e9_73e5_a6b2_a43f_48e7_dc84_9e37_bfcf_u128.to_be_bytes())
    }

    fn source() -> IpAddr {
        "198.51.100.100".parse().unwrap()
    }

    fn valid(bytes: &[u8], source: IpAddr, now: u32) -> bool {
        cookies().judge(bytes, source, now).is_valid()
    }

    #[test]
    fn cookies_are_those_of_the_standard() {
        // RFC 9018 appendix A.1.
        let server = 0x0100_0000_5cf7_9f11_1f81_30c3_eee2_9480_u128.to_be_bytes();
        let made = cookies().judge(&CLIENT, source(), MADE);
        let answer = made.answer().unwrap();
        assert!(!made.is_valid());
        assert_eq!((&answer[..8], &answer[8..]), (&CLIENT[..], &server[..]));
        assert!(valid(&answer, source(), MADE));
        // Appendix A.4: an IPv6 client.
        let cookies = Cookies::with_secret(0xdd3b_df93_44b6_78b1_85a6_f5cb_60fc_a715_u128.to_be_bytes());
        let client = 0x2268_1ab9_7d52_c298_u64.to_be_bytes();
        let source = "2001:db8:220:1:59de:d0f4:8769:82b8".parse().unwrap();
        let server = 0x0100_0000_5cf7_c579_2655_6bd0_934c_72f8_u128.to_be_bytes();
        let shown = [&client[..], &server].concat();
        assert!(cookies.judge(&shown, source, 0x5cf7_c579 + 600).is_valid());
    }

    #[test]
    fn a_cookie_is_good_for_an_hour_at_one_address() {
        let answer = cookies().judge(&CLIENT, source(), MADE).answer().unwrap();
        assert!(valid(&answer, "::ffff:198.51.100.100".parse().unwrap(), MADE));
        assert!(valid(&answer, source(), MADE + 3600) && !valid(&answer, source(), MADE + 3601));
        assert!(valid(&answer, source(), MADE - 300) && !valid(&answer, source(), MADE - 301));
        assert!(!valid(&answer, "198.51.100.101".parse().unwrap(), MADE));
        for byte in 0..24 {
            let mut forged = answer;
            forged[byte] ^= 1;
            assert!(!valid(&forged, source(), MADE), "{byte}");
        }
    }

    #[test]
    fn impossible_lengths_are_malformed() {
        for length in 0..64 {
            let judged = cookies().judge(&vec![0; length], source(), MADE);
            assert_eq!(
                judged == Cookie::Malformed,
                !(length == 8 || (16..=40).contains(&length)),
                "{length}"
            );
            assert!(!judged.is_valid());
        }
    }
}
