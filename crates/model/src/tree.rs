//! The token tree: plain token sequences merged by their common prefixes into a forest of segments.
//!
//! A [`Forest`] is a batch. Its tokens lie segment by segment, parents before children, so a shared token is stored, and
//! computed, once. Callers hand in sequences and targets and never build segments; the transformer sees [`Batch`] only.
//! Prior art: Tree Training (arXiv 2511.00413), Prefix Grouper (2506.05433), RadixAttention (2312.07104).

use underdog_tensor::attention::{Run, Span};
use underdog_tensor::cross_entropy::Target;

/// A run of tokens with at most one parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Index of the parent segment, always smaller than the segment's own.
    pub parent: Option<usize>,
    /// First token in the storage order of the forest.
    pub start: usize,
    /// Number of tokens, at least 1.
    pub len: usize,
    /// Position of the first token in every sequence that passes through.
    pub position: usize,
}

/// A token to be predicted in one sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceTarget {
    /// Position of the token that predicts: the model reads it and everything before it.
    pub position: usize,
    /// The token that should come next.
    pub token: u32,
}

/// One sequence to be merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// What is to be predicted where.
    pub targets: Vec<SequenceTarget>,
}

/// Rows that go through the transformer together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Token ids, one a row.
    pub tokens: Vec<u32>,
    /// Positions, one a row.
    pub positions: Vec<usize>,
    /// Where each row's key and value go in the cache (training: the row itself).
    pub slots: Vec<usize>,
    /// Which rows are consecutive and what they see.
    pub runs: Vec<Run>,
}

impl Batch {
    /// Adds `tokens` from `position` on as one run that is stored at `slot` and sees `past`.
    pub fn push(&mut self, tokens: &[u32], position: usize, slot: usize, past: Vec<Span>) {
        self.runs.push(Run { row: self.tokens.len(), len: tokens.len(), position, slot, past });
        self.tokens.extend_from_slice(tokens);
        self.positions.extend(position..position + tokens.len());
        self.slots.extend(slot..slot + tokens.len());
    }
}

impl Batch {
    /// Cut into batches of at most `size` rows, to be run one after the other: a run that is cut sees its own beginning as past.
    ///
    /// # Panics
    /// When `size` is 0.
    pub fn split(&self, size: usize) -> Vec<Batch> {
        assert!(size > 0, "batches of no rows");
        let mut parts = vec![Batch::default()];
        for run in &self.runs {
            let mut done = 0;
            while done < run.len {
                let mut last = parts.len() - 1;
                if parts[last].tokens.len() == size {
                    parts.push(Batch::default());
                    last += 1;
                }
                let len = (size - parts[last].tokens.len()).min(run.len - done);
                let mut past = run.past.clone();
                if done > 0 {
                    past.push(Span { slot: run.slot, len: done, position: run.position });
                }
                let tokens = &self.tokens[run.row + done..][..len];
                parts[last].push(tokens, run.position + done, run.slot + done, past);
                done += len;
            }
        }
        parts
    }
}

/// A forest of segments, with the targets of all sequences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forest {
    tokens: Vec<u32>,
    segments: Vec<Segment>,
    paths: Vec<Vec<usize>>,
    targets: Vec<Target>,
    places: Vec<Vec<usize>>,
}

/// A node of the tree while it is built: `tokens` of the sequence `sequence` from `from` to `to`.
struct Node {
    parent: Option<usize>,
    sequence: usize,
    from: usize,
    to: usize,
    children: Vec<usize>,
}

impl Forest {
    /// Merges sequences by their common prefixes. The order of segments follows the order of the sequences, so the same
    /// sequences give the same forest. Empty sequences take part with an empty path.
    ///
    /// # Panics
    /// When a target's position lies outside of its sequence.
    pub fn merge(sequences: &[Sequence]) -> Self {
        let (nodes, ends) = grow(sequences);
        let (order, place_of) = preorder(&nodes);
        let mut tokens = Vec::new();
        let mut segments: Vec<Segment> = Vec::with_capacity(nodes.len());
        for &node in &order {
            let Node { parent, sequence, from, to, .. } = nodes[node];
            segments.push(Segment {
                parent: parent.map(|p| place_of[p]),
                start: tokens.len(),
                len: to - from,
                position: from,
            });
            tokens.extend_from_slice(&sequences[sequence].tokens[from..to]);
        }
        let paths =
            ends.iter().map(|end| path_to(&nodes, *end).into_iter().map(|n| place_of[n]).collect()).collect();
        let mut forest = Forest { tokens, segments, paths, targets: Vec::new(), places: Vec::new() };
        forest.place_targets(sequences);
        forest
    }

    /// Sorts the targets of all sequences by row and notes where each went.
    fn place_targets(&mut self, sequences: &[Sequence]) {
        let mut all: Vec<(Target, usize, usize)> = Vec::new();
        for (i, sequence) in sequences.iter().enumerate() {
            for (j, target) in sequence.targets.iter().enumerate() {
                let row = self.row(i, target.position);
                all.push((Target { row, token: target.token }, i, j));
            }
        }
        all.sort_by_key(|(target, ..)| target.row);
        self.places = sequences.iter().map(|s| vec![0; s.targets.len()]).collect();
        for (place, (target, i, j)) in all.into_iter().enumerate() {
            self.targets.push(target);
            self.places[i][j] = place;
        }
    }

    /// Storage row of a position of a sequence.
    ///
    /// # Panics
    /// When the sequence is shorter.
    pub fn row(&self, sequence: usize, position: usize) -> usize {
        let path = &self.paths[sequence];
        let segment = path.iter().map(|&s| &self.segments[s]).find(|s| position < s.position + s.len);
        let segment = segment.expect("a position lies inside its sequence");
        segment.start + position - segment.position
    }

    /// Tokens in storage order; each shared token once.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The segments, parents before children.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The segments that a sequence passes through, root first. The last may reach beyond the sequence's end.
    pub fn path(&self, sequence: usize) -> &[usize] {
        &self.paths[sequence]
    }

    /// All targets, sorted by row: `row` counts in storage order.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// For each target of a sequence, its index in [`Forest::targets`].
    pub fn places(&self, sequence: usize) -> &[usize] {
        &self.places[sequence]
    }

    /// The spans of a segment's ancestors in storage order, root first.
    pub fn ancestors(&self, segment: usize) -> Vec<Span> {
        let mut spans = Vec::new();
        let mut next = self.segments[segment].parent;
        while let Some(s) = next {
            let Segment { parent, start, len, position } = self.segments[s];
            spans.push(Span { slot: start, len, position });
            next = parent;
        }
        spans.reverse();
        spans
    }

    /// The whole forest as one batch whose keys lie where its rows lie.
    pub fn batch(&self) -> Batch {
        let mut batch = Batch::default();
        for (i, s) in self.segments.iter().enumerate() {
            batch.push(&self.tokens[s.start..s.start + s.len], s.position, s.start, self.ancestors(i));
        }
        batch
    }
}

/// The radix tree of the sequences and the node each ends in (`None` for an empty one).
fn grow(sequences: &[Sequence]) -> (Vec<Node>, Vec<Option<usize>>) {
    let mut nodes: Vec<Node> = Vec::new();
    let mut roots: Vec<usize> = Vec::new();
    let mut ends = Vec::with_capacity(sequences.len());
    for (index, sequence) in sequences.iter().enumerate() {
        let tokens = &sequence.tokens;
        let (mut at, mut parent) = (0, None);
        while at < tokens.len() {
            let siblings = parent.map_or(&roots, |p: usize| &nodes[p].children);
            let first = |&&n: &&usize| sequences[nodes[n].sequence].tokens[nodes[n].from] == tokens[at];
            let Some(&node) = siblings.iter().find(first) else {
                let new = nodes.len();
                nodes.push(Node {
                    parent,
                    sequence: index,
                    from: at,
                    to: tokens.len(),
                    children: Vec::new(),
                });
                match parent {
                    Some(p) => nodes[p].children.push(new),
                    None => roots.push(new),
                }
                (at, parent) = (tokens.len(), Some(new));
                continue;
            };
            let known = &sequences[nodes[node].sequence].tokens[nodes[node].from..nodes[node].to];
            let common = known.iter().zip(&tokens[at..]).take_while(|(a, b)| a == b).count();
            at += common;
            // A sequence that ends inside a segment leaves it whole; one that branches off splits it.
            if common < known.len() && at < tokens.len() {
                split(&mut nodes, node, common);
            }
            parent = Some(node);
        }
        ends.push(parent);
    }
    let ends = trim_ends(&nodes, sequences, ends);
    (nodes, ends)
}

/// Cuts a node after `len` tokens; the rest becomes its only child and inherits the children.
fn split(nodes: &mut Vec<Node>, node: usize, len: usize) {
    let new = nodes.len();
    let Node { sequence, from, to, .. } = nodes[node];
    let children = std::mem::replace(&mut nodes[node].children, vec![new]);
    for &child in &children {
        nodes[child].parent = Some(new);
    }
    nodes.push(Node { parent: Some(node), sequence, from: from + len, to, children });
    nodes[node].to = from + len;
}

/// A later split may have moved the end of an earlier sequence into a child: walk down along its own tokens.
fn trim_ends(nodes: &[Node], sequences: &[Sequence], ends: Vec<Option<usize>>) -> Vec<Option<usize>> {
    let down = |index: usize, end: Option<usize>| {
        let tokens = &sequences[index].tokens;
        let mut node = end?;
        while nodes[node].to < tokens.len() {
            let next = tokens[nodes[node].to];
            let child = nodes[node]
                .children
                .iter()
                .find(|&&c| sequences[nodes[c].sequence].tokens[nodes[c].from] == next);
            node = *child.expect("a split keeps every path");
        }
        Some(node)
    };
    ends.into_iter().enumerate().map(|(i, end)| down(i, end)).collect()
}

/// Nodes in depth-first order, and each node's place in it.
fn preorder(nodes: &[Node]) -> (Vec<usize>, Vec<usize>) {
    let mut order = Vec::with_capacity(nodes.len());
    let mut place_of = vec![0; nodes.len()];
    let mut stack: Vec<usize> = (0..nodes.len()).rev().filter(|&n| nodes[n].parent.is_none()).collect();
    while let Some(node) = stack.pop() {
        place_of[node] = order.len();
        order.push(node);
        stack.extend(nodes[node].children.iter().rev());
    }
    (order, place_of)
}

fn path_to(nodes: &[Node], end: Option<usize>) -> Vec<usize> {
    let mut path: Vec<usize> = std::iter::successors(end, |&n| nodes[n].parent).collect();
    path.reverse();
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(tokens: &[u32], targets: &[(usize, u32)]) -> Sequence {
        let target = |&(position, token)| SequenceTarget { position, token };
        Sequence { tokens: tokens.to_vec(), targets: targets.iter().map(target).collect() }
    }

    #[test]
    fn common_prefixes_are_stored_once() {
        let forest = Forest::merge(&[
            sequence(&[1, 2, 3, 4], &[(3, 9)]),
            sequence(&[1, 2, 5], &[(1, 5), (2, 9)]),
            sequence(&[7], &[]),
            sequence(&[1, 2, 3, 4], &[(0, 2)]),
            sequence(&[1], &[(0, 8)]),
            sequence(&[], &[]),
        ]);
        assert_eq!(forest.tokens(), [1, 2, 3, 4, 5, 7]);
        let segment = |parent, start, len, position| Segment { parent, start, len, position };
        let want = [
            segment(None, 0, 2, 0),
            segment(Some(0), 2, 2, 2),
            segment(Some(0), 4, 1, 2),
            segment(None, 5, 1, 0),
        ];
        assert_eq!(forest.segments(), want);
        assert_eq!(forest.path(3), [0, 1]);
        assert_eq!(forest.path(4), [0]);
        assert!(forest.path(5).is_empty());
        let rows: Vec<_> = forest.targets().iter().map(|t| (t.row, t.token)).collect();
        assert_eq!(rows, [(0, 2), (0, 8), (1, 5), (3, 9), (4, 9)]);
        assert_eq!((forest.places(0), forest.places(1)), (&[3usize][..], &[2usize, 4][..]));
        assert_eq!(forest.ancestors(2), [Span { slot: 0, len: 2, position: 0 }]);
    }

    #[test]
    fn a_split_moves_the_ends_of_earlier_sequences() {
        let forest = Forest::merge(&[
            sequence(&[1, 2, 3], &[(2, 0)]),
            sequence(&[1, 9], &[]),
            sequence(&[1, 2, 8], &[]),
        ]);
        assert_eq!(forest.path(0).len(), 3);
        for (i, want) in [vec![1, 2, 3], vec![1, 9], vec![1, 2, 8]].into_iter().enumerate() {
            let got: Vec<u32> = (0..want.len()).map(|p| forest.tokens()[forest.row(i, p)]).collect();
            assert_eq!(got, want, "sequence {i}");
        }
    }
}
