//! The flame graph: samples summed into a tree of frames, then pruned so that a browser can draw it.

use std::collections::{HashMap, hash_map::Entry};

use model::pprof::{Profile, Sample};
use serde::Serialize;

use crate::frame::{FrameId, FrameTable, Kind, Locations, OTHER_NAME};
use crate::query::Group;

/// Deepest level that is drawn; what lies below becomes one frame.
pub(crate) const DEPTH_MAX_FRAMES: usize = 1200;
/// Most nodes in an answer.
pub(crate) const NODES_MAX: usize = 20_000;
/// Nodes under this share of the whole are folded together: one five-thousandth is a third of a pixel on a
/// wide screen.
pub(crate) const SHARE_MIN_DIVISOR: u64 = 5_000;

/// One frame in one place of the tree. Children follow their parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) frame: FrameId,
    /// Index of the parent; `None` for the root, which is the first node.
    pub(crate) parent: Option<u32>,
    pub(crate) self_ns: u64,
    pub(crate) total_ns: u64,
}

/// What pruning did, so that the page can say it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Folded {
    /// Nodes that are not in the answer.
    pub(crate) nodes: u64,
    /// CPU time that stands in `(other)` nodes instead.
    pub(crate) ns: u64,
    /// Nodes of less CPU time than this are not in the answer.
    pub(crate) threshold_ns: u64,
    /// Samples deeper than the depth limit.
    pub(crate) deep_samples: u64,
}

/// The tree of one selection.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
    deep_samples: u64,
}

impl Tree {
    /// Sums the samples, outermost frame at the root. `group` adds one level below the root.
    pub(crate) fn build(
        profile: &Profile,
        group: Group,
        table: &mut FrameTable,
        locations: &Locations<'_>,
    ) -> Self {
        let root = table.intern(Kind::Root, "all", "", "");
        let other = table.intern(Kind::Other, OTHER_NAME, "", "");
        let mut tree = Self {
            nodes: vec![Node { frame: root, parent: None, self_ns: 0, total_ns: 0 }],
            deep_samples: 0,
        };
        let mut children: HashMap<(u32, FrameId), u32> = HashMap::new();
        let value_index = value_index(profile);
        let mut path = Vec::new();
        for sample in &profile.sample {
            let Some(ns) = value_ns(sample, value_index) else { continue };
            path.clear();
            if let Some(name) = group_name(sample, group, locations) {
                path.push(table.intern(Kind::Group, &name, "", ""));
            }
            if let Some(reason) = text_label(sample, "incomplete", locations) {
                path.push(table.intern(Kind::Unresolved, &format!("[incomplete: {reason}]"), "", ""));
            }
            for location in sample.location_id.iter().rev() {
                if path.len() > DEPTH_MAX_FRAMES {
                    break;
                }
                path.extend(locations.frames(*location).iter().map(|(frame, _)| *frame));
            }
            if path.len() > DEPTH_MAX_FRAMES {
                path.truncate(DEPTH_MAX_FRAMES - 1);
                path.push(other);
                tree.deep_samples += 1;
            }
            tree.add(&path, ns, &mut children);
        }
        tree
    }

    /// CPU time of the whole tree.
    pub(crate) fn total_ns(&self) -> u64 {
        self.nodes.first().map_or(0, |root| root.total_ns)
    }

    #[cfg(test)]
    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The tree with small nodes folded into their parent's `(other)`, children in the order of their names,
    /// `(other)` last. At most `nodes_max` nodes stay, and the root.
    pub(crate) fn prune(
        &self,
        table: &mut FrameTable,
        share_min_divisor: u64,
        nodes_max: usize,
    ) -> (Vec<Node>, Folded) {
        let threshold_ns = self.threshold_ns(share_min_divisor, nodes_max);
        let mut folded = Folded { threshold_ns, deep_samples: self.deep_samples, ..Folded::default() };
        let mut children: Vec<Vec<u32>> = vec![Vec::new(); self.nodes.len()];
        for (index, node) in self.nodes.iter().enumerate() {
            if let Some(parent) = node.parent {
                children[parent as usize].push(index as u32);
            }
        }
        let other = table.intern(Kind::Other, OTHER_NAME, "", "");
        let mut kept: Vec<Node> = Vec::new();
        let mut open = vec![Open::Node(0, None)];
        while let Some(next) = open.pop() {
            let (index, parent) = match next {
                Open::Node(index, parent) => (index as usize, parent),
                Open::Other(ns, parent) => {
                    folded.ns = folded.ns.saturating_add(ns);
                    kept.push(Node { frame: other, parent: Some(parent), self_ns: ns, total_ns: ns });
                    continue;
                }
            };
            let at = kept.len() as u32;
            kept.push(Node { parent, ..self.nodes[index] });
            let (mut large, small): (Vec<u32>, Vec<u32>) = children[index].iter().partition(|child| {
                let node = &self.nodes[**child as usize];
                node.total_ns >= threshold_ns && node.frame != other
            });
            let small_ns = small.iter().map(|child| self.nodes[*child as usize].total_ns);
            let small_ns = small_ns.fold(0, u64::saturating_add);
            if small_ns > 0 {
                open.push(Open::Other(small_ns, at));
            }
            large.sort_by(|a, b| self.order(table, *a).cmp(&self.order(table, *b)).reverse());
            open.extend(large.into_iter().map(|child| Open::Node(child, Some(at))));
        }
        let survivors = kept.iter().filter(|n| n.frame != other).count();
        let before = self.nodes.iter().filter(|n| n.frame != other).count();
        folded.nodes = before.saturating_sub(survivors) as u64;
        (kept, folded)
    }

    fn add(&mut self, path: &[FrameId], ns: u64, children: &mut HashMap<(u32, FrameId), u32>) {
        let mut at = 0_u32;
        self.grow(at, ns);
        for frame in path {
            at = match children.entry((at, *frame)) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(free) => {
                    let index = self.nodes.len() as u32;
                    self.nodes.push(Node { frame: *frame, parent: Some(at), self_ns: 0, total_ns: 0 });
                    *free.insert(index)
                }
            };
            self.grow(at, ns);
        }
        let last = &mut self.nodes[at as usize];
        last.self_ns = last.self_ns.saturating_add(ns);
    }

    fn grow(&mut self, index: u32, ns: u64) {
        let node = &mut self.nodes[index as usize];
        node.total_ns = node.total_ns.saturating_add(ns);
    }

    /// A parent is never smaller than its child, so one threshold keeps whole paths. Each kept node may bring
    /// one `(other)`, hence half the limit.
    fn threshold_ns(&self, share_min_divisor: u64, nodes_max: usize) -> u64 {
        let by_share = (self.total_ns() / share_min_divisor.max(1)).max(1);
        let keep_max = (nodes_max / 2).max(1);
        let mut totals: Vec<u64> =
            self.nodes.iter().map(|n| n.total_ns).filter(|ns| *ns >= by_share).collect();
        if totals.len() <= keep_max {
            return by_share;
        }
        totals.sort_unstable_by(|a, b| b.cmp(a));
        totals[keep_max].saturating_add(1)
    }

    fn order<'t>(&self, table: &'t FrameTable, index: u32) -> (&'t str, &'t str) {
        let frame = table.get(self.nodes[index as usize].frame);
        (&frame.name, &frame.module)
    }
}

/// What pruning has still to visit, each with its parent's place among the kept nodes.
enum Open {
    Node(u32, Option<u32>),
    Other(u64, u32),
}

/// Which of a sample's values is CPU time.
pub(crate) fn value_index(profile: &Profile) -> usize {
    let is_cpu = |index: i64| {
        let name = usize::try_from(index).ok().and_then(|i| profile.string_table.get(i));
        name.is_some_and(|name| name == "cpu")
    };
    profile.sample_type.iter().position(|t| is_cpu(t.r#type)).unwrap_or(0)
}

/// A sample's CPU time; `None` when it has none.
pub(crate) fn value_ns(sample: &Sample, value_index: usize) -> Option<u64> {
    let value = sample.value.get(value_index).copied()?;
    u64::try_from(value).ok().filter(|ns| *ns > 0)
}

/// The value of a text label; `None` without one.
fn text_label<'a>(sample: &Sample, key: &str, locations: &'a Locations<'_>) -> Option<&'a str> {
    let label = sample.label.iter().find(|label| locations.string(label.key) == key);
    label.map(|label| locations.string(label.str)).filter(|text| !text.is_empty())
}

fn group_name(sample: &Sample, group: Group, locations: &Locations<'_>) -> Option<String> {
    let text = |key: &str| text_label(sample, key, locations).unwrap_or_default();
    let or = |name: &str, absent: &str| if name.is_empty() { absent.to_owned() } else { name.to_owned() };
    match group {
        Group::None => None,
        Group::Process => Some(or(text("process_name"), "[unknown process]")),
        Group::Container => Some(or(text("container_id"), "[no container]")),
        Group::Service => Some(or(text("service_name"), "[unknown service]")),
        Group::Pid => {
            let pid = sample.label.iter().find(|l| locations.string(l.key) == "pid").map(|l| l.num);
            let name = or(text("process_name"), "[unknown process]");
            Some(pid.map_or_else(|| name.clone(), |pid| format!("{name} ({pid})")))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::synthetic::Builder;

    fn build(profile: &Profile, group: Group) -> (Tree, FrameTable) {
        let mut table = FrameTable::default();
        let locations = Locations::new(profile, &mut table);
        let tree = Tree::build(profile, group, &mut table, &locations);
        (tree, table)
    }

    fn names(nodes: &[Node], table: &FrameTable) -> Vec<(String, u64, u64)> {
        nodes.iter().map(|n| (table.get(n.frame).name.clone(), n.self_ns, n.total_ns)).collect()
    }

    fn assert_conserved(nodes: &[Node], total_ns: u64) {
        assert_eq!(nodes[0].total_ns, total_ns);
        let mut sums = vec![0_u64; nodes.len()];
        for (index, node) in nodes.iter().enumerate() {
            if let Some(parent) = node.parent {
                assert!((parent as usize) < index, "a parent stands before its children");
                sums[parent as usize] += node.total_ns;
            }
        }
        for (node, sum) in nodes.iter().zip(sums) {
            assert_eq!(node.self_ns + sum, node.total_ns);
        }
    }

    #[test]
    fn a_stack_that_is_not_complete_says_so_before_its_first_frame() {
        let mut builder = Builder::default();
        builder.sample_incomplete(&["main", "work"], 3, "stack_cut");
        builder.sample(&["main", "work"], 5, "app", None);
        let (tree, table) = build(&builder.finish(), Group::None);
        let found = names(tree.nodes(), &table);
        assert!(found.contains(&("[incomplete: stack_cut]".to_owned(), 0, 3)), "{found:?}");
        assert!(found.contains(&("work".to_owned(), 5, 5)), "{found:?}");
    }

    #[test]
    fn samples_sum_along_their_path() {
        let mut builder = Builder::default();
        builder.sample(&["main", "work", "hash"], 60, "a", None);
        builder.sample(&["main", "work"], 30, "a", None);
        builder.sample(&["main"], 10, "b", None);
        let (tree, table) = build(&builder.finish(), Group::None);
        let expected = [("all", 0, 100), ("main", 10, 100), ("work", 30, 90), ("hash", 60, 60)];
        let expected: Vec<_> = expected.map(|(n, s, t)| (n.to_owned(), s, t)).to_vec();
        assert_eq!(names(tree.nodes(), &table), expected);
    }

    #[test]
    fn grouping_by_container_adds_a_level_and_names_what_has_none() {
        let mut builder = Builder::default();
        builder.sample(&["main"], 60, "a", Some("c0ffee"));
        builder.sample(&["main"], 40, "b", None);
        let (tree, mut table) = build(&builder.finish(), Group::Container);
        let (nodes, _) = tree.prune(&mut table, 1_000, 100);
        let names = names(&nodes, &table);
        assert_eq!(names[1], ("[no container]".to_owned(), 0, 40));
        assert_eq!(names[3], ("c0ffee".to_owned(), 0, 60));
    }

    #[test]
    fn grouping_by_pid_tells_two_processes_of_one_name_apart() {
        let mut builder = Builder::default();
        builder.sample_of_pid(&["main"], 60, "a", 7);
        builder.sample_of_pid(&["main"], 40, "a", 8);
        let (tree, table) = build(&builder.finish(), Group::Pid);
        let names: Vec<_> = names(tree.nodes(), &table).into_iter().map(|n| n.0).collect();
        assert!(names.contains(&"a (7)".to_owned()) && names.contains(&"a (8)".to_owned()), "{names:?}");
    }

    #[test]
    fn a_stack_deeper_than_the_limit_keeps_its_time() {
        let deep: Vec<String> = (0..2 * DEPTH_MAX_FRAMES).map(|i| format!("f{i}")).collect();
        let deep: Vec<&str> = deep.iter().map(String::as_str).collect();
        let mut builder = Builder::default();
        builder.sample(&deep, 5, "a", None);
        let (tree, mut table) = build(&builder.finish(), Group::None);
        assert_eq!(tree.nodes().len(), DEPTH_MAX_FRAMES + 1);
        let (nodes, folded) = tree.prune(&mut table, 1_000, NODES_MAX);
        assert_conserved(&nodes, 5);
        assert_eq!((folded.deep_samples, folded.ns), (1, 5));
    }

    #[test]
    fn an_empty_profile_is_a_root_of_nothing() {
        let (tree, mut table) = build(&Profile::default(), Group::Process);
        let (nodes, folded) = tree.prune(&mut table, SHARE_MIN_DIVISOR, NODES_MAX);
        assert_eq!((nodes.len(), nodes[0].total_ns, folded.nodes), (1, 0, 0));
    }

    #[test]
    fn a_value_below_zero_is_left_out() {
        let mut builder = Builder::default();
        builder.sample(&["main"], -5, "a", None);
        builder.sample(&["main"], 5, "a", None);
        let (tree, _) = build(&builder.finish(), Group::None);
        assert_eq!(tree.total_ns(), 5);
    }

    proptest! {
        #[test]
        fn building_and_pruning_keep_every_nanosecond(
            samples in prop::collection::vec((prop::collection::vec(0_u8..6, 0..12), 1_i64..1_000, 0_u8..3), 0..120),
            divisor in 1_u64..2_000,
            nodes_max in 2_usize..60,
        ) {
            let mut builder = Builder::default();
            let mut total_ns = 0;
            for (stack, ns, process) in &samples {
                let frames: Vec<String> = stack.iter().map(|f| format!("f{f}")).collect();
                let frames: Vec<&str> = frames.iter().map(String::as_str).collect();
                builder.sample(&frames, *ns, &format!("p{process}"), None);
                total_ns += *ns as u64;
            }
            let (tree, mut table) = build(&builder.finish(), Group::Process);
            assert_conserved(tree.nodes(), total_ns);
            let (nodes, folded) = tree.prune(&mut table, divisor, nodes_max);
            assert_conserved(&nodes, total_ns);
            prop_assert!(nodes.len() <= nodes_max + 2, "{} of {nodes_max}", nodes.len());
            for node in &nodes[1..] {
                let other = table.get(node.frame).kind == Kind::Other;
                prop_assert!(other || node.total_ns >= folded.threshold_ns);
            }
            let in_other: u64 =
                nodes.iter().filter(|n| table.get(n.frame).kind == Kind::Other).map(|n| n.total_ns).sum();
            prop_assert_eq!(in_other, folded.ns);
            let mut places: Vec<_> = nodes.iter().map(|n| (n.parent, n.frame)).collect();
            places.sort_unstable();
            places.dedup();
            prop_assert_eq!(places.len(), nodes.len(), "a frame stands once below its parent");
        }
    }
}
