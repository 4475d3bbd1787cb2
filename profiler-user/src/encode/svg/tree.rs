//! The stacks of a profile as one tree: equal beginnings (from the root) are one path. Bounded: only the heaviest nodes are drawn.

use crate::encode::frame::{self, Frame, Origin};
use crate::encode::lost;
use crate::model::profile::{Profile, Sample};
use std::borrow::Cow;
use std::collections::HashMap;

/// Most nodes of a drawing: about 2 MB, which a browser still shows at once.
const MAX_NODES: usize = 8_000;
/// Most rows of a drawing.
const MAX_DEPTH: usize = 512;

/// What a node stands for, which gives its hue.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Stands {
    /// The whole profile.
    All,
    /// A process.
    Process,
    /// A function of a process.
    User,
    /// A frame of a process without a name.
    Unresolved,
    /// A function of the kernel.
    Kernel,
    /// What was lost.
    Lost,
}

impl From<Origin> for Stands {
    fn from(origin: Origin) -> Self {
        match origin {
            Origin::User => Self::User,
            Origin::Unresolved => Self::Unresolved,
            Origin::Kernel => Self::Kernel,
        }
    }
}

/// A node: a frame, below all frames that called it.
#[derive(Debug)]
pub(super) struct Node<'a> {
    /// Name; not escaped.
    pub(super) name: Cow<'a, str>,
    /// What it stands for.
    pub(super) stands: Stands,
    /// Events in it and below.
    pub(super) events: i64,
    /// Their weight: the profile's last column.
    pub(super) weight: i64,
    /// Row; the root has 0.
    pub(super) depth: usize,
    /// Weight of what is drawn to the left of it.
    pub(super) left: i64,
    children: Vec<usize>,
}

/// The nodes to draw, each behind its caller; none if there are no samples.
pub(super) fn drawn(profile: &Profile) -> Vec<Node<'_>> {
    let shown = profile.kind.default_column();
    let mut tree = Tree { nodes: vec![node(Cow::Borrowed("all"), Stands::All, 0)], places: HashMap::new() };
    for sample in &profile.samples {
        tree.add(path(profile, sample), sample.values[0], sample.values.get(shown).copied().unwrap_or(0));
    }
    for lost in lost::samples(profile) {
        let frame = (Cow::Owned(lost.name.clone()), Stands::Lost);
        tree.add(vec![frame], lost.values[0], lost.values.get(shown).copied().unwrap_or(0));
    }
    tree.drawn()
}

/// The frames of a sample from the root, its process first.
fn path<'a>(profile: &'a Profile, sample: &'a Sample) -> Vec<(Cow<'a, str>, Stands)> {
    let above = frame::above(profile, sample).into_iter().map(|name| (name, Stands::Process));
    let frames = frame::of_sample(profile, sample).into_iter().rev();
    above.chain(frames.map(|Frame { name, origin }| (name, origin.into()))).collect()
}

fn node(name: Cow<'_, str>, stands: Stands, depth: usize) -> Node<'_> {
    Node { name, stands, events: 0, weight: 0, depth, left: 0, children: Vec::new() }
}

/// The tree while it grows; node 0 is the root.
struct Tree<'a> {
    nodes: Vec<Node<'a>>,
    places: HashMap<(usize, Stands, Cow<'a, str>), usize>,
}

impl<'a> Tree<'a> {
    fn add(&mut self, path: Vec<(Cow<'a, str>, Stands)>, events: i64, weight: i64) {
        if weight <= 0 {
            return;
        }
        let mut at = 0;
        self.count(at, events, weight);
        for (depth, (name, stands)) in path.into_iter().enumerate().take(MAX_DEPTH - 1) {
            at = self.child(at, name, stands, depth + 1);
            self.count(at, events, weight);
        }
    }

    fn count(&mut self, at: usize, events: i64, weight: i64) {
        let node = &mut self.nodes[at];
        node.events = node.events.saturating_add(events);
        node.weight = node.weight.saturating_add(weight);
    }

    fn child(&mut self, parent: usize, name: Cow<'a, str>, stands: Stands, depth: usize) -> usize {
        let next = self.nodes.len();
        let at = *self.places.entry((parent, stands, name.clone())).or_insert(next);
        if at == next {
            self.nodes.push(node(name, stands, depth));
            self.nodes[parent].children.push(at);
        }
        at
    }

    /// The heaviest nodes, laid out: callers before callees, siblings by name, what was lost last. A caller weighs no less than what it calls
    /// and comes first among equals, so the choice is a tree again.
    fn drawn(mut self) -> Vec<Node<'a>> {
        if self.nodes[0].weight == 0 {
            return Vec::new();
        }
        let mut heaviest: Vec<usize> = (0..self.nodes.len()).collect();
        heaviest.sort_by_key(|at| (std::cmp::Reverse(self.nodes[*at].weight), self.nodes[*at].depth, *at));
        let mut kept = vec![false; self.nodes.len()];
        heaviest.iter().take(MAX_NODES).for_each(|at| kept[*at] = true);
        let mut order = Vec::with_capacity(heaviest.len().min(MAX_NODES));
        let mut open = vec![0];
        while let Some(at) = open.pop() {
            order.push(at);
            let mut children: Vec<usize> = self.nodes[at].children.iter().copied().filter(|child| kept[*child]).collect();
            children.sort_by(|a, b| {
                let (a, b) = (&self.nodes[*a], &self.nodes[*b]);
                (a.stands == Stands::Lost, &a.name, a.stands).cmp(&(b.stands == Stands::Lost, &b.name, b.stands))
            });
            let mut left = self.nodes[at].left;
            for child in &children {
                self.nodes[*child].left = left;
                left = left.saturating_add(self.nodes[*child].weight);
            }
            open.extend(children.into_iter().rev());
        }
        let mut nodes: Vec<Option<Node<'a>>> = self.nodes.into_iter().map(Some).collect();
        order.into_iter().filter_map(|at| nodes[at].take()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_DEPTH, MAX_NODES, Stands, drawn};
    use crate::encode::sample_profile::sample_profile;
    use crate::model::profile::{Function, Line, Location, Sample};

    #[test]
    fn equal_beginnings_are_one_path_and_losses_come_last() {
        let profile = sample_profile();
        let nodes = drawn(&profile);
        let shown: Vec<_> = nodes.iter().map(|node| (node.depth, &*node.name, node.stands, node.events, node.left / 10_000_000)).collect();
        assert_eq!(
            shown,
            [
                (0, "all", Stands::All, 31, 0),
                (1, "app", Stands::Process, 21, 0),
                (2, "main", Stands::User, 21, 0),
                (3, "main", Stands::User, 1, 0),
                (4, "main", Stands::User, 1, 0),
                (3, "outer", Stands::User, 12, 1),
                (4, "inner<T>", Stands::User, 12, 1),
                (3, "schedule", Stands::Kernel, 8, 13),
                (1, "other;\n", Stands::Process, 7, 21),
                (2, "[no stack]", Stands::Unresolved, 2, 21),
                (2, "main", Stands::User, 5, 23),
                (3, "[app]", Stands::Unresolved, 5, 23),
                (1, "[lost: ring full]", Stands::Lost, 3, 28),
            ]
        );
    }

    #[test]
    fn a_huge_profile_is_bounded_and_still_a_tree() {
        let mut profile = sample_profile();
        let first = profile.locations.len();
        for at in 0..30_000_u32 {
            let function = profile.functions.len();
            let name: std::sync::Arc<str> = format!("f{at}").into();
            profile.functions.push(Function { system_name: name.clone(), name, filename: "".into(), start_line: 0 });
            let lines = Ok(vec![Line { function, line: 0, column: 0, go: None }]);
            profile.locations.push(Location { mapping: None, address: u64::from(at), lines });
        }
        let sample = |locations| Sample { locations, values: vec![1, 10_000_000], raw: None, hidden: 0, process: None, labels: Vec::new() };
        profile.samples = (first..first + 30_000).map(|at| sample(vec![at])).collect();
        profile.samples.push(sample(vec![1; 10_000]));
        let nodes = drawn(&profile);
        assert_eq!(nodes.len(), MAX_NODES);
        assert!(nodes.iter().all(|node| node.depth < MAX_DEPTH));
        assert!(nodes.windows(2).all(|pair| pair[1].depth <= pair[0].depth + 1));
    }
}
