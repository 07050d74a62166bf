//! The prefix lengths that clients are counted by.

use toml::{Spanned, Value};

use super::{Wrong, problem::DynBlocksProblem};

/// Different lengths, each with the multiple of the limit that all in such a prefix may have together.
#[derive(Clone, Debug)]
pub(super) struct Tiers(Vec<(u8, u32)>);

/// More are an error of the library.
const MOST: usize = 8;

/// What differs between the two protocols.
struct Protocol {
    mask: &'static str,
    tiers: &'static str,
    max: u8,
    example: &'static str,
}

const V4: Protocol = Protocol { mask: "mask4", tiers: "tiers4", max: 32, example: "[[32, 1], [24, 32]]" };
const V6: Protocol = Protocol { mask: "mask6", tiers: "tiers6", max: 128, example: "[[128, 1], [64, 2]]" };

impl Tiers {
    pub(super) fn iter(&self) -> impl Iterator<Item = (u8, u32)> {
        self.0.iter().copied()
    }

    pub(super) fn v4(
        mask: Option<Spanned<u8>>,
        tiers: Option<Spanned<Value>>,
    ) -> Result<Option<Self>, Wrong> {
        Self::of(&V4, mask, tiers)
    }

    pub(super) fn v6(
        mask: Option<Spanned<u8>>,
        tiers: Option<Spanned<Value>>,
    ) -> Result<Option<Self>, Wrong> {
        Self::of(&V6, mask, tiers)
    }

    fn of(
        protocol: &Protocol,
        mask: Option<Spanned<u8>>,
        tiers: Option<Spanned<Value>>,
    ) -> Result<Option<Self>, Wrong> {
        let Protocol { mask: key, max, .. } = *protocol;
        match (mask, tiers) {
            (None, None) => Ok(None),
            (Some(mask), None) if *mask.get_ref() <= max => Ok(Some(Self(vec![(*mask.get_ref(), 1)]))),
            (Some(mask), None) => {
                let value = (*mask.get_ref()).into();
                let problem = DynBlocksProblem::Number { key, value, from: 0, to: max.into() };
                Err(Spanned::new(mask.span(), problem))
            }
            (Some(mask), Some(_)) => {
                let problem = DynBlocksProblem::MaskAndTiers { mask: key, tiers: protocol.tiers };
                Err(Spanned::new(mask.span(), problem))
            }
            (None, Some(tiers)) => {
                let pairs = pairs(tiers.get_ref(), max).ok_or_else(|| {
                    let Protocol { tiers: key, example, .. } = *protocol;
                    let value = tiers.get_ref().to_string();
                    Spanned::new(tiers.span(), DynBlocksProblem::Tiers { key, value, example, max })
                })?;
                Ok(Some(Self(pairs)))
            }
        }
    }
}

/// Up to so many pairs with different lengths, each with some of the limit.
fn pairs(value: &Value, max: u8) -> Option<Vec<(u8, u32)>> {
    let pairs = value.as_array()?.iter().map(pair).collect::<Option<Vec<_>>>()?;
    let mut lengths: Vec<_> = pairs.iter().map(|(len, _)| *len).collect();
    lengths.sort_unstable();
    lengths.dedup();
    let fits = lengths.len() == pairs.len()
        && (1..=MOST).contains(&pairs.len())
        && pairs.iter().all(|(len, multiple)| *len <= max && *multiple > 0);
    fits.then_some(pairs)
}

fn pair(value: &Value) -> Option<(u8, u32)> {
    let [len, multiple] = value.as_array()?.as_slice() else { return None };
    Some((u8::try_from(len.as_integer()?).ok()?, u32::try_from(multiple.as_integer()?).ok()?))
}
