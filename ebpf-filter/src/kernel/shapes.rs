//! Which shapes the names with rules have: what the programs look at before they look a name up.

use std::sync::{MutexGuard, PoisonError};

use ebpf_prog::shape::{Shape, Shapes};

use super::load::Kernel;
use crate::{KernelError, Match};

/// How many rules there are for names of each shape.
#[derive(Debug)]
pub(super) struct ShapeCounts(Box<[u32; Shapes::COUNT]>);

impl ShapeCounts {
    pub(super) fn new() -> Self {
        Self(Box::new([0; Shapes::COUNT]))
    }
}

impl Kernel {
    /// Tells the programs of new rules for names.
    pub(super) fn add_shapes<'a>(&self, matches: impl Iterator<Item = &'a Match>) -> Result<(), KernelError> {
        let mut counts = self.shape_counts();
        self.change_config(|config| {
            for shape in shapes(matches) {
                counts.0[shape.index()] += 1;
                config.shapes.set(shape, true);
            }
        })
    }

    /// Tells the programs of rules for names that are gone.
    pub(super) fn remove_shapes<'a>(
        &self,
        matches: impl Iterator<Item = &'a Match>,
    ) -> Result<(), KernelError> {
        let mut counts = self.shape_counts();
        self.change_config(|config| {
            for shape in shapes(matches) {
                let count = &mut counts.0[shape.index()];
                *count = count.saturating_sub(1);
                config.shapes.set(shape, *count > 0);
            }
        })
    }

    fn shape_counts(&self) -> MutexGuard<'_, ShapeCounts> {
        self.shapes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shapes<'a>(matches: impl Iterator<Item = &'a Match>) -> impl Iterator<Item = Shape> {
    matches.filter_map(|of| match of {
        Match::Qname(name, _) => Some(Shape::of(name.as_wire())),
        Match::Ipv4(_) | Match::Ipv6(_) => None,
    })
}
