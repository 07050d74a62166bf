//! Names, and queries for them.

use super::A;
use crate::random::{letters, random};

/// Different packets that take turns: with fewer, the processor learns their branches by heart, which flatters a program
/// that takes names byte by byte.
const VARIANTS: usize = 1024;

/// A length of names: how many characters, and the labels that they are made of.
pub(super) struct Shape {
    pub(super) characters: usize,
    labels: &'static [usize],
}

pub(super) const SHORT: Shape = Shape { characters: 12, labels: &[8, 3] };
pub(super) const MIDDLE: Shape = Shape { characters: 57, labels: &[3, 20, 17, 10, 3] };
pub(super) const LONG: Shape = Shape { characters: 199, labels: &[31, 31, 31, 31, 31, 27, 7, 3] };
pub(super) const MANY_LABELS: Shape = Shape { characters: 253, labels: &[1; 127] };

const _: () = {
    assert!(SHORT.adds_up() && MIDDLE.adds_up() && LONG.adds_up() && MANY_LABELS.adds_up());
};

impl Shape {
    /// Counts the dots between the labels.
    const fn adds_up(&self) -> bool {
        let (mut sum, mut index) = (self.labels.len() - 1, 0);
        while index < self.labels.len() {
            sum += self.labels[index];
            index += 1;
        }
        sum == self.characters
    }

    /// One of the names of this shape; a different number makes a different name.
    pub(super) fn name(&self, variant: usize) -> String {
        text(self.labels, &mut (variant as u64))
    }

    /// The last labels of the 0th name: two, or half of them if there are more.
    pub(super) fn suffix(&self) -> String {
        let name = self.name(0);
        let labels: Vec<_> = name.split('.').collect();
        labels[labels.len() - (labels.len() / 2).max(2)..].join(".")
    }

    /// Queries for names that differ from the 0th.
    pub(super) fn others(&self) -> Vec<Vec<u8>> {
        (1..=VARIANTS).map(|variant| query(&self.name(variant))).collect()
    }

    /// Queries for names as long as the 0th, with labels of other lengths in each, and in random case.
    pub(super) fn varied(&self) -> Vec<Vec<u8>> {
        (1..=VARIANTS)
            .map(|variant| {
                let state = &mut (variant as u64);
                let labels = cut(self.characters, state);
                query(&in_random_case(&text(&labels, state), state))
            })
            .collect()
    }

    /// Queries for the 0th name.
    pub(super) fn same(&self) -> Vec<Vec<u8>> {
        vec![query(&self.name(0)); VARIANTS]
    }

    /// Queries for the 0th name, in random case.
    pub(super) fn cased(&self) -> Vec<Vec<u8>> {
        let name = self.name(0);
        (1..=VARIANTS).map(|variant| query(&in_random_case(&name, &mut (variant as u64)))).collect()
    }
}

fn text(labels: &[usize], state: &mut u64) -> String {
    labels.iter().map(|len| letters(*len, state)).collect::<Vec<_>>().join(".")
}

fn in_random_case(name: &str, state: &mut u64) -> String {
    let case = |c: char| if random(state).is_multiple_of(2) { c.to_ascii_uppercase() } else { c };
    name.chars().map(case).collect()
}

/// Lengths of labels that make a name of so many characters: 3 to 20 each, the last one may be longer.
fn cut(characters: usize, state: &mut u64) -> Vec<usize> {
    let (mut labels, mut left) = (Vec::new(), characters);
    while left > 24 {
        let label = 3 + (random(state) % 18) as usize;
        labels.push(label);
        left -= label + 1;
    }
    if left > 7 {
        let label = 3 + (random(state) % (left as u64 - 6)) as usize;
        labels.push(label);
        left -= label + 1;
    }
    labels.push(left);
    labels
}

/// A query for the A records of `name`.
pub(super) fn query(name: &str) -> Vec<u8> {
    let mut query = vec![0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.extend(u8::try_from(label.len()));
        query.extend(label.bytes());
    }
    query.push(0);
    query.extend(A.to_be_bytes());
    query.extend([0, 1]);
    query
}
