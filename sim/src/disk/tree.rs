//! Directories and files, and how they are found.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Index,
};

use super::{
    Errno, Kind, Result,
    dir::Dir,
    file::{File, PAGE},
};

/// Whatever has a name, is open, or may come back when the power is cut.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    pub(super) nodes: BTreeMap<u64, Node>,
    /// The number that the next one gets; none comes twice.
    next: u64,
}

#[derive(Clone, Debug)]
pub(super) enum Node {
    File(File),
    Dir(Dir),
}

const ROOT: u64 = 0;
/// So many bytes of removed files can come back at most; before there are more, the journal has
/// been written by itself.
pub(super) const REMOVED: usize = 16 << 20;

impl Default for Tree {
    fn default() -> Self {
        Self {
            nodes: BTreeMap::from([(ROOT, Node::Dir(Dir::default()))]),
            next: ROOT + 1,
        }
    }
}

impl Index<u64> for Tree {
    type Output = Node;

    /// One that has a name or is open, and so is there.
    fn index(&self, node: u64) -> &Node {
        &self.nodes[&node]
    }
}

impl Tree {
    /// The bytes of all that has a name or is open.
    pub(super) fn used(&self, open: &[u64]) -> u64 {
        let seen = self.seen(open);
        let sizes = seen.iter().map(|node| match &self[*node] {
            Node::File(file) => blocks(file.len()),
            // The root was there when the disk was empty.
            Node::Dir(_) if *node == ROOT => 0,
            Node::Dir(_) => PAGE as u64,
        });
        sizes.sum()
    }

    /// Forgets what nobody can reach any more, not even after a power cut.
    pub(super) fn collect(&mut self, open: &[u64]) {
        self.forget_unreachable(open);
        let seen = self.seen(open);
        let removed = self.nodes.iter().filter(|(node, _)| !seen.contains(node));
        let sizes = removed.map(|(_, node)| match node {
            Node::File(file) => file.memory(),
            Node::Dir(_) => 0,
        });
        if sizes.sum::<usize>() > REMOVED {
            for node in self.nodes.values_mut() {
                if let Node::Dir(dir) = node {
                    dir.commit();
                }
            }
            self.forget_unreachable(open);
        }
    }

    /// All that has a name or is open.
    fn seen(&self, open: &[u64]) -> BTreeSet<u64> {
        let mut found = BTreeSet::from_iter(open.iter().copied());
        let mut left = vec![ROOT];
        while let Some(node) = left.pop() {
            found.insert(node);
            if let Node::Dir(dir) = &self[node] {
                left.extend(dir.entries().values());
            }
        }
        found
    }

    fn forget_unreachable(&mut self, open: &[u64]) {
        let mut found = BTreeSet::new();
        let mut left = vec![ROOT];
        left.extend(open);
        while let Some(node) = left.pop() {
            if found.insert(node)
                && let Some(Node::Dir(dir)) = self.nodes.get(&node)
            {
                left.extend(dir.nodes());
            }
        }
        self.nodes.retain(|node, _| found.contains(node));
    }

    /// Something new in a directory, where the name is free.
    pub(super) fn create(&mut self, parent: u64, name: &str, node: Node) -> Result<u64> {
        let number = self.next;
        self.dir_mut(parent)?.put(name, number);
        self.nodes.insert(number, node);
        self.next += 1;
        Ok(number)
    }

    pub(super) fn resolve(&self, path: &str) -> Result<u64> {
        let mut node = ROOT;
        for name in names(path) {
            let entries = self.dir(node)?.entries();
            node = *entries.get(check(name)?).ok_or(Errno::NotFound)?;
        }
        Ok(node)
    }

    /// What cannot be taken away of a file.
    pub(super) fn durable(&self, path: &str) -> Option<&[u8]> {
        let mut node = ROOT;
        for name in names(path) {
            node = *self.dir(node).ok()?.durable().get(name)?;
        }
        match self.nodes.get(&node)? {
            Node::File(file) => Some(file.durable()),
            Node::Dir(_) => None,
        }
    }

    /// The directory that a path ends in, and the name in it.
    pub(super) fn parent<'a>(&self, path: &'a str) -> Result<(u64, &'a str)> {
        let name = names(path).next_back().ok_or(Errno::Busy)?;
        let mut node = ROOT;
        let mut above = names(path);
        above.next_back();
        for name in above {
            let entries = self.dir(node)?.entries();
            node = *entries.get(check(name)?).ok_or(Errno::NotFound)?;
        }
        self.dir(node)?;
        Ok((node, check(name)?))
    }

    pub(super) fn dir(&self, node: u64) -> Result<&Dir> {
        match self.nodes.get(&node) {
            Some(Node::Dir(dir)) => Ok(dir),
            Some(Node::File(_)) => Err(Errno::NotADirectory),
            None => Err(Errno::NotFound),
        }
    }

    pub(super) fn dir_mut(&mut self, node: u64) -> Result<&mut Dir> {
        match self.nodes.get_mut(&node) {
            Some(Node::Dir(dir)) => Ok(dir),
            Some(Node::File(_)) => Err(Errno::NotADirectory),
            None => Err(Errno::NotFound),
        }
    }
}

impl Node {
    pub(super) const fn kind(&self) -> Kind {
        match self {
            Self::File(file) => Kind::File(file.len()),
            Self::Dir(_) => Kind::Dir,
        }
    }
}

fn names(path: &str) -> impl DoubleEndedIterator<Item = &str> {
    path.split('/')
        .filter(|name| !name.is_empty() && *name != ".")
}

fn check(name: &str) -> Result<&str> {
    match name.len() {
        _ if name == ".." || name.contains('\0') => Err(Errno::Invalid),
        0..=255 => Ok(name),
        _ => Err(Errno::NameTooLong),
    }
}

pub(super) const fn blocks(len: u64) -> u64 {
    len.next_multiple_of(PAGE as u64)
}
