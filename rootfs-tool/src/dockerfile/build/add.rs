//! COPY, ADD and WORKDIR.

use std::path::Path;
use std::sync::Arc;

use coracle_store::digest::Digest;
use coracle_store::layer::pack::{Archive, Content, FromDir, Meta, source_date_epoch};
use coracle_store::upper::Workspace;
use coracle_sys::{Context, Error, Kind as ErrorKind, Result, file, time};

use super::Stage;
use crate::dockerfile::cache;
use crate::dockerfile::chmod::Chmod;
use crate::dockerfile::config::State;
use crate::dockerfile::context;
use crate::dockerfile::copy::{self, Rules, Stands, Target, shown};
use crate::dockerfile::git;
use crate::dockerfile::glob;
use crate::dockerfile::ignore::Ignore;
use crate::dockerfile::instruction::Copy;
use crate::dockerfile::owner;
use crate::dockerfile::words::Lexer;
use crate::registry;

impl Stage<'_, '_> {
    pub(super) fn copy(&mut self, copy: &Copy, label: &str) -> Result<()> {
        let given = self.build.given.clone();
        let word = |text: &String| self.state.word(text, &given);
        let mut copy = copy.clone();
        copy.sources = copy.sources.iter().map(word).collect::<Result<_>>()?;
        copy.dest = word(&copy.dest)?;
        // What a variable has left empty is not asked for.
        copy.chown = copy.chown.as_ref().map(word).transpose()?.filter(|o| !o.is_empty());
        copy.chmod = copy.chmod.as_ref().map(word).transpose()?.filter(|m| !m.is_empty());
        copy.checksum = copy.checksum.as_ref().map(word).transpose()?;
        copy.exclude = copy.exclude.iter().map(word).collect::<Result<_>>()?;
        let verb = if copy.add { "ADD" } else { "COPY" };
        if copy.from.as_ref().is_some_and(|f| f.contains('$')) {
            return Err(Error::invalid(
                "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround",
            ));
        }
        let from = match &copy.from {
            Some(name) if name != "context" => Some(self.source(name)?),
            _ => None,
        };
        let what = format!("{verb} {} {} {}", copy.sources.join(" "), inline_names(&copy), copy.dest);
        let what = what.split_whitespace().collect::<Vec<_>>().join(" ");
        let ids = |s: &Arc<State>| s.ids.iter().map(Digest::hex).collect::<Vec<_>>().join(" ");
        // What comes of layers that never change need not be looked at again.
        let quick = from.as_ref().map(|s| {
            cache::key(&[&self.state.key.hex(), "copy", &format!("{copy:?} {}", self.state.cwd()), &ids(s)])
        });
        if let Some(quick) = quick
            && !self.fresh
            && cache::look(self.build.tx, &quick, &self.state.ids).is_some()
        {
            return self.layer(label, what, quick, |_, _| Err(Error::invalid("it is gone")));
        }
        let mut spaces = Vec::new();
        let archive = self.gather(&copy, from.as_ref(), &mut spaces)?;
        let key = match quick {
            Some(quick) => quick,
            None => {
                let content = self.build.contents.of_archive(&archive)?;
                cache::key(&[&self.state.key.hex(), "add", &content.hex()])
            }
        };
        self.layer(label, what, key, |stage, _| stage.build.tx.put_layer(&archive, &stage.state.ids))
    }

    /// What --from means.
    pub(super) fn source(&self, name: &str) -> Result<Arc<State>> {
        match self.build.source_stage(name, self.number)? {
            Some(n) => self.build.wait_for(n),
            None => self.build.image(name, self.build.options.platform.as_ref()),
        }
    }

    /// The entries of the layer.
    fn gather(&self, copy: &Copy, from: Option<&Arc<State>>, spaces: &mut Vec<Workspace>) -> Result<Archive> {
        let below = self.below()?;
        let below = (!copy.link).then_some(&below);
        let resolve_owner = |text: &String| owner::resolve(text, Some(&self.below()?));
        let rules = Rules {
            dest: self.state.absolute(&copy.dest),
            owner: copy.chown.as_ref().map(resolve_owner).transpose()?,
            chmod: copy.chmod.as_deref().map(Chmod::parse).transpose()?,
            exclude: Ignore::of(&copy.exclude).context(|| "--exclude")?,
            parents: copy.parents,
            now: (source_date_epoch().unwrap_or_else(time::now), 0),
        };
        let mut target = Target::new(below);
        let repository = |source: &String| {
            let found = git::parse(source).filter(|_| copy.add).transpose();
            found.map_err(|e| e.with_kind(ErrorKind::Invalid))
        };
        let remote = |source: &String| {
            copy.add
                && (source.starts_with("http://")
                    || source.starts_with("https://")
                    || git::parse(source).is_some())
        };
        let tree = match from {
            Some(state) => Arc::new(self.build.tree_of(&state.ids)?),
            None if copy.sources.iter().all(remote) => Arc::default(),
            None => self.build.context_tree()?,
        };
        if copy.checksum.is_some() && (copy.sources.len() != 1 || !copy.sources.iter().all(remote)) {
            return Err(Error::invalid(
                "checksum can't be specified for sources that are neither HTTP(S) nor git",
            ));
        }
        for source in &copy.sources {
            if let Some(address) = repository(source)? {
                self.check_out(source, &address, copy, &rules, &mut target, spaces)?;
                continue;
            }
            if remote(source) {
                self.fetch(source, copy, &rules, &mut target, spaces)?;
                continue;
            }
            if copy.add && copy.unpack != Some(false) {
                self.add(&tree, source, &rules, &mut target, spaces)?;
            } else {
                target.copy(&tree, source, &rules)?;
            }
        }
        for inline in &copy.inline {
            let mut text = inline.text();
            if inline.expand {
                let lexer = Lexer { plain_quotes: true, ..Lexer::new('\\') };
                text = lexer.word(&text, &|name| self.state.get(name))?;
            }
            let mut tree = Archive::new();
            let meta = Meta { mtime: rules.now, ..Meta::new(0o644) };
            tree.put(&inline.name, meta, Content::Bytes(text.into_bytes()))?;
            // Its name is no pattern.
            target.copy(&tree, &escaped(&inline.name), &rules)?;
        }
        if copy.link {
            target.archive.put_parents();
        }
        Ok(target.archive)
    }

    /// ADD of files: archives among them are unpacked.
    fn add(
        &self,
        tree: &Archive,
        source: &str,
        rules: &Rules,
        target: &mut Target<'_>,
        spaces: &mut Vec<Workspace>,
    ) -> Result<()> {
        let mut plain = Vec::new();
        for found in copy::sources(tree, source)? {
            let at = copy::follow(tree, &found)?;
            match tree.get(shown(&at)) {
                Some((_, Content::File { path, size, .. }))
                    if *size > 0 && self.unpack(path, rules, target, spaces)? => {}
                _ => plain.push(found),
            }
        }
        for found in plain {
            target.copy(tree, &escaped(&String::from_utf8_lossy(&found)), rules)?;
        }
        Ok(())
    }

    /// Unpack an archive. False where it is none.
    fn unpack(
        &self,
        path: &Path,
        rules: &Rules,
        target: &mut Target<'_>,
        spaces: &mut Vec<Workspace>,
    ) -> Result<bool> {
        let (is_tar, input) = context::looked_at(file::open_plain(path)?)?;
        if !is_tar {
            return Ok(false);
        }
        let space = self.build.tx.workspace()?;
        let dir = space.dir("tar", 0o755)?;
        if let Err(e) = context::extract(input, &dir) {
            // Compressed, and no archive: a file like others.
            let empty = std::fs::read_dir(&dir).is_ok_and(|mut d| d.next().is_none());
            let packed = path.extension().is_none_or(|x| x != "tar");
            return if empty && packed { Ok(false) } else { Err(e.wrap(format!("unpack {path:?}"))) };
        }
        let mut tree = Archive::new();
        let how = FromDir { owner: None, latest: source_date_epoch(), xattrs: true };
        tree.put_dir(&dir, "", how)?;
        let new = rules.new_dir();
        let dest = target.destination(rules, &new)?;
        target.merge(&tree, &dest, rules)?;
        spaces.push(space);
        Ok(true)
    }

    /// ADD of an address.
    fn fetch(
        &self,
        url: &str,
        copy: &Copy,
        rules: &Rules,
        target: &mut Target<'_>,
        spaces: &mut Vec<Workspace>,
    ) -> Result<()> {
        let expected = copy.checksum.as_deref().map(|c| {
            c.parse::<Digest>().map_err(|_| Error::invalid(format!("--checksum={c}: it is sha256:HEX")))
        });
        let expected = expected.transpose()?;
        let space = self.build.tx.workspace()?;
        let path = space.path().join("fetched");
        let got = registry::fetch(url, &path).context(|| format!("ADD {url}"))?;
        if let Some(expected) = expected
            && got.digest != expected
        {
            return Err(Error::invalid(format!("ADD {url}: digest mismatch {}: {expected}", got.digest)));
        }
        let name = got.name.ok_or_else(|| Error::invalid(format!("ADD {url}: cannot determine filename")));
        let name = if rules.dest.ends_with('/') { name? } else { name.unwrap_or_else(|_| "file".to_owned()) };
        let mtime = match source_date_epoch() {
            Some(epoch) => got.modified.unwrap_or(epoch).min(epoch),
            None => got.modified.unwrap_or(rules.now.0),
        };
        if copy.unpack == Some(true) && self.unpack(&path, rules, target, spaces)? {
            spaces.push(space);
            return Ok(());
        }
        let mut tree = Archive::new();
        let meta = Meta { mtime: (mtime, 0), ..Meta::new(0o600) };
        tree.put(&name, meta, Content::File { path, size: got.size, seen: None })?;
        target.copy(&tree, &escaped(&name), rules)?;
        spaces.push(space);
        Ok(())
    }

    /// ADD of a repository: what it holds, as it holds it.
    fn check_out(
        &self,
        source: &str,
        address: &git::Address,
        copy: &Copy,
        rules: &Rules,
        target: &mut Target<'_>,
        spaces: &mut Vec<Workspace>,
    ) -> Result<()> {
        let mut fetch = || {
            let space = self.build.tx.workspace()?;
            let dir = space.dir("repository", 0o755)?;
            let keys = self.build.options.keys(address)?;
            let commit = git::fetch(address, &dir, &keys, copy.keep_git_dir)?;
            if let Some(expected) = &copy.checksum
                && !is_start_of(expected, &commit)
            {
                return Err(Error::invalid(format!("expected checksum to match {expected}, got {commit}")));
            }
            let dir = match &address.folder {
                Some(name) => context::beneath(&dir, name)?,
                None => dir,
            };
            let mut tree = Archive::new();
            tree.put_dir(&dir, "", FromDir::default())?;
            target.copy(&tree, "/", rules)?;
            spaces.push(space);
            Ok(())
        };
        fetch().map_err(|e: Error| e.wrap(format!("ADD {source}")))
    }

    pub(super) fn workdir(&mut self, path: &str, label: &str) -> Result<()> {
        let path = self.state.word(path, &self.build.given)?;
        // An absolute one stands in the config as it was typed, but for a `..` over a directory that need not be there.
        let as_typed = path.starts_with('/') && !path.split('/').any(|part| part == "..");
        let typed = if as_typed { path } else { glob::clean(&self.state.absolute(&path)) };
        let path = glob::clean(&typed);
        self.state.config.working_dir = Some(typed.clone());
        let what = format!("WORKDIR {typed}");
        if typed == "/" {
            self.state.note(what, None, false);
            return Ok(());
        }
        let key = cache::key(&[
            &self.state.key.hex(),
            "workdir",
            &path,
            self.state.config.user.as_deref().unwrap_or_default(),
        ]);
        self.layer(label, what, key, |stage, _| {
            let below = stage.below()?;
            let mut target = Target::new(Some(&below));
            let at = target.resolve(path.as_bytes())?;
            match target.at(&at)? {
                Some(Stands::Dir) => {}
                Some(Stands::Other) => {
                    return Err(Error::invalid(format!("Cannot mkdir: {path} is not a directory")));
                }
                None => {
                    let user = stage.state.config.user.as_deref().unwrap_or_default();
                    // Who is unknown here may be known where the image runs: then it is root's, as docker has it.
                    let owner = owner::resolve(user, Some(&below));
                    let (uid, gid) = match owner {
                        Err(e) if e.kind() == ErrorKind::NotFound => (0, 0),
                        owner => owner?,
                    };
                    let now = (source_date_epoch().unwrap_or_else(time::now), 0);
                    target.dirs(&at, &Meta { uid, gid, mtime: now, ..Meta::new(0o755) })?;
                }
            }
            stage.build.tx.put_layer(&target.archive, &stage.state.ids)
        })
    }
}

fn inline_names(copy: &Copy) -> String {
    copy.inline.iter().map(|h| format!("<<{}", h.name)).collect::<Vec<_>>().join(" ")
}

/// Is it a commit's number, or enough of its beginning?
fn is_start_of(expected: &str, commit: &str) -> bool {
    expected.len() >= 7 && commit.starts_with(&expected.to_ascii_lowercase())
}

/// A path as a pattern that matches it alone.
fn escaped(path: &str) -> String {
    match glob::is_pattern(path) {
        false => path.to_owned(),
        true => {
            let class = |c| match c {
                '\\' => "[\\\\]".to_owned(),
                '*' | '?' | '[' => format!("[{c}]"),
                c => c.to_string(),
            };
            path.chars().map(class).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_looks_like_a_pattern_means_itself() {
        for name in ["a*b", "[x]", "plain", "a?", "b\\c*"] {
            let mut tree = Archive::new();
            tree.put(name, Meta::new(0o644), Content::Bytes(Vec::new())).unwrap();
            assert_eq!(copy::sources(&tree, &escaped(name)).unwrap(), [name.as_bytes()], "{name}");
        }
    }
}
