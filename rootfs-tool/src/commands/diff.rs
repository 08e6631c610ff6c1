//! `rootfs-tool diff`.

use std::collections::BTreeSet;
use std::path::Path;

use argh::{ArgsInfo, FromArgs};
use coracle_store::layer::Marks;
use coracle_store::layer::pack::{Archive, Content, FromDir, Meta};
use coracle_store::{Digest, Store};
use coracle_sys::print::harmless;
use coracle_sys::{Context, Result, order, table};
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use serde_json::{Value, json};

use super::{enter_user_namespace, find, open};

/// Tell what differs in what two images amount to, or two of their layers (by diff id): A was added, C changed, D
/// deleted, with the bytes of files.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "diff", example = "rootfs-tool diff app:1 app:2")]
pub(crate) struct Diff {
    /// print one JSON array
    #[argh(switch)]
    json: bool,
    /// the store: RW[:RO...]
    #[argh(option, arg_name = "DIR")]
    store: Option<String>,
    /// a name, an id, or a layer's diff id
    #[argh(positional, arg_name = "a")]
    a: String,
    /// what it is compared with
    #[argh(positional, arg_name = "b")]
    b: String,
}

impl Diff {
    /// Run it.
    pub(crate) fn run(self) -> Result<()> {
        let store = open(self.store.as_deref())?;
        // Files of subordinate ids are to be read.
        enter_user_namespace();
        let (before, after) = (tree(&store, &self.a)?, tree(&store, &self.b)?);
        let paths: BTreeSet<&Path> = order::gather(before.paths().chain(after.paths()));
        let mut rows: Vec<Value> = Vec::new();
        let (mut more, mut less) = (0, 0);
        for path in paths {
            let (old, new) = (before.get(path), after.get(path));
            let letter = match (old, new) {
                (None, _) => "A",
                (_, None) => "D",
                (Some(old), Some(new)) if same(old, new)? => continue,
                _ => "C",
            };
            let bytes = |entry: Option<(&Meta, &Content)>| entry.map_or(0, |(_, content)| size(content));
            let (was, is) = (bytes(old), bytes(new));
            more += is;
            less += was;
            rows.push(
                json!({"Kind": letter, "Path": format!("/{}", path.display()), "Before": was, "After": is}),
            );
        }
        if self.json {
            coracle_sys::print::json(&Value::Array(rows), false);
            return Ok(());
        }
        for row in &rows {
            let text = |key: &str| row[key].as_str().unwrap_or_default();
            let bytes = row["After"].as_u64().unwrap_or(0).max(row["Before"].as_u64().unwrap_or(0));
            coracle_sys::say!("{} {:>8}  {}", text("Kind"), table::size(bytes), harmless(text("Path")));
        }
        coracle_sys::say!("{} paths, {} before, {} after", rows.len(), table::size(less), table::size(more));
        Ok(())
    }
}

/// What an image or a layer amounts to.
fn tree(store: &Store, typed: &str) -> Result<Archive> {
    let how = FromDir { owner: None, latest: None, xattrs: true };
    let trees = match typed.parse::<Digest>().ok().and_then(|id| store.layer_path(&id, &id)) {
        Some(layer) => vec![layer],
        None => store.stack_paths(find(store, typed)?.diff_ids())?,
    };
    Archive::of_stack(&trees, Marks::of_this_process(), how).context(|| format!("look at {typed}"))
}

fn size(content: &Content) -> u64 {
    match content {
        Content::File { size, .. } => *size,
        Content::Bytes(bytes) => bytes.len() as u64,
        _ => 0,
    }
}

/// Is it the same file, with the same content?
fn same(a: (&Meta, &Content), b: (&Meta, &Content)) -> Result<bool> {
    if a.0 != b.0 {
        return Ok(false);
    }
    match (a.1, b.1) {
        (Content::File { path: p, size: m, .. }, Content::File { path: q, size: n, .. }) => {
            if m != n || p == q {
                return Ok(m == n);
            }
            let digest = |path: &Path| -> Result<Digest> {
                let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let file =
                    nix::fcntl::open(path, flags, Mode::empty()).context(|| format!("open({path:?})"))?;
                let mut hash = coracle_store::digest::Hashing::new(std::fs::File::from(file));
                std::io::copy(&mut hash, &mut std::io::sink()).context(|| format!("read({path:?})"))?;
                Ok(hash.finish().0)
            };
            Ok(digest(p)? == digest(q)?)
        }
        (a, b) => Ok(a == b),
    }
}
