//! Dynamic blocks: who exceeds a limit is blocked for a while, in the kernel too, and for as long as the flood goes on.

mod blocks;
mod builder;
mod counting;
mod error;
mod exempt;
mod group;
mod legacy;
mod malformed;
mod measure;
mod observed;
mod penalty;
mod subject;
mod tell;
mod time;

// So that no file has to say in which folder another one is.
use {
    blocks::{book, entry, keeper, life, offences, placing, removal, standing},
    measure::{limiter, meter, ratio, rule, slots, suffix_limit, tiers},
    tell::{counters, notice, view},
};

pub(crate) use measure::{hash::mix, limiter::Limiter, ratio::Level, slots::Slots};
pub use {
    builder::DynBlockGroupBuilder,
    error::{AddError, DynBlockError, StateError},
    exempt::Exempt,
    governor,
    group::DynBlockGroup,
    legacy::DynBpfFilter,
    measure::{
        rate::{Rate, RateError},
        ratio::{Ratio, RatioError},
        suffix_limit::SuffixLimit,
    },
    observed::{QueryEvent, ResponseEvent, Transport},
    penalty::{Growth, Ladder, Penalty, ScopeBy},
    subject::{Scope, Subject},
    tell::{
        counters::DynBlockStats,
        notice::{DynBlockEvent, DynBlockEventKind},
        view::DynBlock,
    },
    time::TokioClock,
};
