//! COPY --parents.

use coracle_store::layer::pack::{Archive, Content};
use coracle_sys::Result;

use super::{Rules, Target, clean_source, join, linked, missing, shown, sources};
use crate::dockerfile::glob::{self, Glob};

impl Target<'_> {
    /// `--parents`: what matches keeps its directories, from the beginning or from a `/./` on.
    pub(super) fn copy_parents(&mut self, tree: &Archive, source: &str, rules: &Rules) -> Result<usize> {
        let new = rules.new_dir();
        let (pivot, rest) = source.split_once("/./").unwrap_or(("", source));
        let pivot = clean_source(pivot);
        let rest = clean_source(rest);
        let dest = self.destination(rules, &new)?;
        self.dirs(&dest, &new)?;
        let glob = Glob::parse(&rest, true)?;
        let pivots = if pivot.is_empty() { vec![Vec::new()] } else { sources(tree, &pivot)? };
        let mut all: Vec<(usize, Vec<u8>)> = Vec::new();
        for pivot in &pivots {
            let skip = if pivot.is_empty() { 0 } else { pivot.len() + 1 };
            for (path, _, _) in tree.inside(pivot) {
                let within = String::from_utf8_lossy(&path[skip..]);
                let below = |found: &(usize, Vec<u8>)| path.starts_with(&[&found.1[..], b"/"].concat());
                if !all.last().is_some_and(below) && glob.matches(&within) {
                    all.push((skip, path.to_vec()));
                }
            }
        }
        if all.is_empty() && !glob::is_pattern(&rest) && !rest.is_empty() {
            return Err(missing(&join(pivot.as_bytes(), rest.as_bytes())));
        }
        for (skip, found) in &all {
            let within = &found[*skip..];
            if rules.exclude.matches(&String::from_utf8_lossy(within)) {
                continue;
            }
            for end in (0..within.len()).filter(|n| within[*n] == b'/') {
                let to = join(&dest, &within[..end]);
                if self.at(&to)?.is_none() {
                    let like = tree.get(shown(&found[..skip + end])).map(|(m, _)| m.clone());
                    self.put(&to, rules.owned(like.unwrap_or_else(|| new.clone())), Content::Dir)?;
                }
            }
            let Some((meta, content)) = tree.get(shown(found)) else { continue };
            let to = join(&dest, within);
            let content = linked(tree, content.clone());
            self.put(&to, rules.of(meta.clone(), &content), content.clone())?;
            if content == Content::Dir {
                self.copy_inside(tree, found, &to, rules)?;
            }
        }
        Ok(all.len())
    }
}
