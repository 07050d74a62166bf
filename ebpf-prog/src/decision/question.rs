//! The part of the decision that is about what a packet asks for.

use core::ops::ControlFlow;

use super::{Decided, Rules, Subject, apply, search_bucket, unless_found};
use crate::{
    layout::Kinds,
    message::{Message, Question},
    names::{NameNode, Selector},
    shape::Shape,
    table::{Bucket, Node as _},
};

/// Decides by the question of a message alone.
#[inline(always)]
pub fn decide_question<'a, R: Rules<'a>>(
    message: &mut Message,
    question: &Question,
    rules: &R,
) -> Option<Decided> {
    let kinds = rules.policy().kinds();
    let exact = kinds.any(Kinds::QNAMES) && rules.may_know(question.shape);
    let suffixes = kinds.any(Kinds::SUFFIXES);
    if !exact && !suffixes {
        return None;
    }
    message.start_suffixes::<R>(question.name_len);
    let asked = Asked::new(kinds, exact, question.qtype);
    if suffixes && !exact && skip_unknown(message, rules).is_none() {
        return None;
    }
    let turns = if suffixes { Message::MAX_SUFFIXES } else { 1 };
    R::search(turns, move |_| {
        let Some(key) = message.suffix() else { return ControlFlow::Break(None) };
        let known = asked.suffixes() && rules.may_know(Shape::of_suffix(key));
        let here = asked.at(message.is_whole(), known);
        if !here.nothing() {
            message.canonicalize::<R>(rules.seed());
            let message = &*message;
            let decided = R::search(Asked::KINDS, move |kind| {
                let Some(selector) = here.selector(kind) else { return ControlFlow::Continue(()) };
                let tag = selector.tag(message.digest(), rules.seed());
                let Some(bucket) = Bucket::of(rules.names(), tag.hash()) else {
                    return ControlFlow::Continue(());
                };
                unless_found(search_bucket::<R, _>(rules.names(), bucket, rules.seed(), |node: &NameNode| {
                    if !node.is::<R>(tag, message, rules.blocks()) {
                        return ControlFlow::Continue(());
                    }
                    ControlFlow::Break(apply(rules, Subject::Name, node.cell()))
                }))
            });
            if decided.is_some() {
                return ControlFlow::Break(decided);
            }
        }
        message.next_suffix();
        ControlFlow::Continue(())
    })
}

/// Goes over the first suffixes that have no rules, without a loop: few names have more labels. `None` if there are no others.
#[inline(always)]
fn skip_unknown<'a, R: Rules<'a>>(message: &mut Message, rules: &R) -> Option<()> {
    for _ in 0..FEW_SUFFIXES {
        if rules.may_know(Shape::of_suffix(message.suffix()?)) {
            break;
        }
        message.next_suffix();
    }
    Some(())
}

/// Three labels and the root.
const FEW_SUFFIXES: usize = 4;

/// Which rules are asked about a name, one bit a kind in the order of asking, and the type of the query. In one word, like
/// [`crate::layout::Policy`].
#[derive(Clone, Copy)]
struct Asked(u64);

impl Asked {
    const KINDS: usize = 4;
    const ONE_TYPE: u64 = 1;
    const ALL_TYPES: u64 = 1 << 1;
    const EXACT: u64 = Self::ONE_TYPE | Self::ALL_TYPES;
    const SUFFIXES: u64 = Self::EXACT << 2;

    #[inline(always)]
    fn new(kinds: Kinds, exact: bool, qtype: u16) -> Self {
        let [one, all, one_below, all_below] = [
            (Kinds::QNAME_ONE_TYPE, exact),
            (Kinds::QNAME_ALL_TYPES, exact),
            (Kinds::SUFFIX_ONE_TYPE, true),
            (Kinds::SUFFIX_ALL_TYPES, true),
        ]
        .map(|(kind, asked)| u64::from(asked && kinds.any(kind)));
        Self(u64::from(qtype) << 4 | all_below << 3 | one_below << 2 | all << 1 | one)
    }

    #[inline(always)]
    const fn suffixes(self) -> bool {
        self.0 & Self::SUFFIXES != 0
    }

    /// What is asked about one of the suffixes: whether it is the whole name, and whether its shape is known.
    #[inline(always)]
    const fn at(self, whole: bool, known: bool) -> Self {
        let without = if whole { 0 } else { Self::EXACT } | if known { 0 } else { Self::SUFFIXES };
        Self(self.0 & !without)
    }

    #[inline(always)]
    const fn nothing(self) -> bool {
        self.0 & (Self::EXACT | Self::SUFFIXES) == 0
    }

    #[inline(always)]
    #[allow(clippy::cast_possible_truncation, reason = "the type is all that is left")]
    const fn selector(self, kind: usize) -> Option<Selector> {
        if self.0 >> kind & 1 == 0 {
            return None;
        }
        let types =
            if kind & 1 == 0 { Selector::one_type((self.0 >> 4) as u16) } else { Selector::all_types() };
        Some(if kind & 2 == 0 { types } else { types.below() })
    }
}
