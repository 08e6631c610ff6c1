//! `rootfs.toml`: what an image is made of. Unknown keys are refused by name, with their line.
//! Nothing is looked up here.

mod boot;
pub mod deb;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use coracle_sys::json::{self, Value, Wrong};
use coracle_sys::{Context, Error, Kind, Result, order, read_json};

pub(crate) use self::boot::Boot;
pub(crate) use self::deb::Deb;
use crate::toml_text;

/// The recipe's file in its folder.
pub(crate) const FILE: &str = "rootfs.toml";

/// A recipe, as it was written.
#[derive(Debug, Default)]
pub(crate) struct Recipe {
    /// The image's name, unless `-t` gives another.
    pub(crate) name: Option<String>,
    /// The layers, bottom first.
    pub(crate) layers: Vec<Layer>,
    /// What the image says about its process.
    pub(crate) config: Config,
    /// What it says about being booted.
    pub(crate) boot: Boot,
}

read_json!(Recipe {
    name: may "name",
    layers: may "layer",
    config: may "config",
    boot: may "boot",
} only);

/// One layer: at most one of `dir`, `tar`, `image`, `bin`, `deb`, and what is put beside it.
#[derive(Debug, Default)]
pub(crate) struct Layer {
    /// A folder, from the recipe's own.
    pub(crate) dir: Option<PathBuf>,
    /// An archive, compressed by gzip or not at all.
    pub(crate) tar: Option<PathBuf>,
    /// An image of the store, whose layers are taken as they are.
    pub(crate) image: Option<String>,
    /// Programs of this host with everything they load.
    pub(crate) bin: Option<Vec<String>>,
    /// Debian packages with all that they need.
    pub(crate) deb: Option<Deb>,
    /// With `bin`: the modules by which the C library finds users, groups and hosts.
    pub(crate) nss: bool,
    /// With `dir`: where it goes.
    pub(crate) at: Option<PathBuf>,
    /// With `dir`: `UID:GID`, or `keep` for the owners on disk. `0:0` when not given.
    pub(crate) owner: Option<String>,
    /// With `dir`: `keep` for the modes and extended attributes on disk. Otherwise folders are 0755,
    /// and files 0755 or 0644.
    pub(crate) mode: Option<String>,
    /// The directories and files of etc that every system has.
    pub(crate) standard: bool,
    /// Users to add to etc/passwd.
    pub(crate) users: Vec<User>,
    /// Groups to add to etc/group.
    pub(crate) groups: Vec<Group>,
    /// Symbolic links: path = target.
    pub(crate) link: BTreeMap<PathBuf, String>,
    /// Small files: path = text.
    pub(crate) file: BTreeMap<PathBuf, String>,
}

read_json!(Layer {
    dir: may "dir",
    tar: may "tar",
    image: may "image",
    bin: may "bin",
    deb: may "deb",
    nss: may "nss",
    at: may "at",
    owner: may "owner",
    mode: may "mode",
    standard: may "standard",
    users: may "users",
    groups: may "groups",
    link: may "link",
    file: may "file",
} only);

/// A user.
#[derive(Clone, Debug, Default)]
pub(crate) struct User {
    /// The name.
    pub(crate) name: String,
    /// The id.
    pub(crate) uid: u32,
    /// The group's id, the user's own when not given.
    pub(crate) gid: Option<u32>,
    /// The home directory, which is made.
    pub(crate) home: Option<String>,
    /// The shell.
    pub(crate) shell: Option<String>,
}

read_json!(User {
    name: must "name",
    uid: must "uid",
    gid: may "gid",
    home: may "home",
    shell: may "shell",
} only);

/// A group.
#[derive(Clone, Debug, Default)]
pub(crate) struct Group {
    /// The name.
    pub(crate) name: String,
    /// The id.
    pub(crate) gid: u32,
    /// Its members.
    pub(crate) members: Vec<String>,
}

read_json!(Group {
    name: must "name",
    gid: must "gid",
    members: may "members",
} only);

/// `[config]`.
#[derive(Debug, Default)]
pub(crate) struct Config {
    /// Variables.
    pub(crate) env: BTreeMap<String, String>,
    /// The default command, or the arguments to the entry point.
    pub(crate) cmd: Option<Vec<String>>,
    /// What the command is passed to.
    pub(crate) entrypoint: Option<Vec<String>>,
    /// `USER[:GROUP]`.
    pub(crate) user: Option<String>,
    /// Where it starts.
    pub(crate) workdir: Option<String>,
    /// Labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// The signal that asks it to stop.
    pub(crate) stop_signal: Option<String>,
    /// `80`, `80/tcp`.
    pub(crate) ports: Vec<Port>,
    /// Another name of `ports`.
    expose: Vec<Port>,
    /// Paths that become volumes.
    pub(crate) volumes: Vec<String>,
    /// How to ask whether it is well.
    pub(crate) healthcheck: Option<Healthcheck>,
}

read_json!(Config {
    env: may "env",
    cmd: may "cmd",
    entrypoint: may "entrypoint",
    user: may "user",
    workdir: may "workdir",
    labels: may "labels",
    stop_signal: may "stop_signal",
    ports: may "ports",
    expose: may "expose",
    volumes: may "volumes",
    healthcheck: may "healthcheck",
} only);

/// A port: a number, or `NUMBER/PROTOCOL`.
#[derive(Clone, Debug)]
pub(crate) enum Port {
    /// A TCP port.
    Number(u16),
    /// With its protocol.
    Text(String),
}

/// Docker's HEALTHCHECK; times are seconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Healthcheck {
    /// The command.
    pub(crate) cmd: Vec<String>,
    /// Between two checks.
    pub(crate) interval: Option<u32>,
    /// How long one may take.
    pub(crate) timeout: Option<u32>,
    /// Failures in a row until it is unhealthy.
    pub(crate) retries: Option<u32>,
}

read_json!(Healthcheck {
    cmd: must "cmd",
    interval: may "interval",
    timeout: may "timeout",
    retries: may "retries",
} only);

impl Recipe {
    /// Read the recipe of a folder.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Err(_) if !folder.exists() => {
                return Err(Error::not_found(format!("read the recipe: there is no folder {folder:?}")));
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::not_found(format!("read the recipe: {folder:?} has no {FILE}")));
            }
            other => other.context(|| format!("open({path:?})"))?,
        };
        Self::parse(&text).map_err(|e| Error::new(Kind::Invalid, format!("read {}: {e}", path.display())))
    }

    /// Parse a recipe and check what belongs together.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut recipe: Self = toml_text::read(text)?;
        recipe.config.ports.append(&mut recipe.config.expose);
        if recipe.layers.is_empty() {
            return Err(Error::invalid("it has no [[layer]]"));
        }
        for (n, layer) in recipe.layers.iter().enumerate() {
            if n > 0 && layer.deb.is_some() {
                return Err(Error::invalid(format!(
                    "layer {}: deb is a root file system of its own, the lowest layer: name all packages there, or install more by a Dockerfile FROM that image (RUN apt-get install)",
                    n + 1
                )));
            }
            layer.check().map_err(|e| Error::invalid(format!("layer {}: {e}", n + 1)))?;
        }
        recipe.config.check().map_err(|e| Error::invalid(format!("[config]: {e}")))?;
        recipe.boot.check().map_err(|e| Error::invalid(format!("[boot]: {e}")))?;
        recipe.config.labels.extend(recipe.boot.labels());
        Ok(recipe)
    }
}

impl Layer {
    fn check(&self) -> Result<()> {
        let kinds = [
            self.dir.is_some(),
            self.tar.is_some(),
            self.image.is_some(),
            self.bin.is_some(),
            self.deb.is_some(),
        ];
        let beside = self.standard
            || !(self.users.is_empty()
                && self.groups.is_empty()
                && self.link.is_empty()
                && self.file.is_empty());
        match kinds.iter().filter(|k| **k).count() {
            0 if !beside => {
                return Err(Error::invalid("it is made of nothing: name dir, tar, image, bin or deb"));
            }
            0 | 1 => {}
            _ => return Err(Error::invalid("dir, tar, image, bin and deb are layers of their own")),
        }
        if (self.tar.is_some() || self.image.is_some()) && beside {
            return Err(Error::invalid(
                "tar and image are taken as they are: put standard, users, groups, link and file into another layer",
            ));
        }
        if self.dir.is_none() && (self.at.is_some() || self.owner.is_some() || self.mode.is_some()) {
            return Err(Error::invalid("at, owner and mode belong to dir"));
        }
        if self.bin.is_none() && self.nss {
            return Err(Error::invalid("nss belongs to bin"));
        }
        if let Some(mode) = &self.mode
            && !matches!(&mode[..], "keep" | "plain")
        {
            return Err(Error::invalid(format!("mode is plain or keep, not {mode:?}")));
        }
        self.owners()?;
        self.deb.iter().try_for_each(Deb::check)?;
        let mut names: Vec<&str> = self.users.iter().map(|u| &u.name[..]).collect();
        order::sort(&mut names);
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::invalid(format!("the user {:?} is there twice", twice[0])));
        }
        let paths = || self.file.keys().chain(self.link.keys()).map(|p| p.strip_prefix("/").unwrap_or(p));
        for path in paths() {
            if paths().any(|p| p != path && p.starts_with(path)) {
                return Err(Error::invalid(format!(
                    "{path:?} cannot be a file or link, and a folder as well"
                )));
            }
        }
        let texts = self
            .users
            .iter()
            .flat_map(|u| [Some(&u.name), u.home.as_ref(), u.shell.as_ref()].into_iter().flatten());
        let texts = texts.chain(self.groups.iter().flat_map(|g| g.members.iter().chain([&g.name])));
        match texts.into_iter().find(|t| t.is_empty() || t.contains([':', '\n', ','])) {
            Some(bad) => Err(Error::invalid(format!("{bad:?} cannot stand in passwd or group"))),
            None => Ok(()),
        }
    }

    /// Owner and group of everything in `dir`; `None` for those on disk.
    pub(crate) fn owners(&self) -> Result<Option<(u32, u32)>> {
        let Some(owner) = self.owner.as_deref() else { return Ok(Some((0, 0))) };
        if owner == "keep" {
            return Ok(None);
        }
        let ids = owner.split_once(':').and_then(|(u, g)| Some((u.parse().ok()?, g.parse().ok()?)));
        match ids {
            Some(ids) => Ok(Some(ids)),
            None => Err(Error::invalid(format!("owner is UID:GID or keep, not {owner:?}"))),
        }
    }

    /// What it is made of, in a few words: for people and for the image's history.
    pub(crate) fn summary(&self) -> String {
        let mut parts = Vec::new();
        parts.extend(self.dir.as_ref().map(|d| format!("dir {}", d.display())));
        parts.extend(self.tar.as_ref().map(|t| format!("tar {}", t.display())));
        parts.extend(self.image.as_ref().map(|i| format!("image {i}")));
        parts.extend(self.bin.as_ref().map(|b| match b.len() {
            0..=6 => format!("bin {}", b.join(" ")),
            n => format!("bin {} and {} more", b[..4].join(" "), n - 4),
        }));
        parts.extend(self.deb.as_ref().map(|d| {
            let named: Vec<&str> = d.packages.iter().take(6).map(|p| &p[..]).collect();
            let more = d.packages.len() - named.len();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("deb {} {}{more}", d.suite, named.join(" ")).trim_end().to_owned()
        }));
        for (said, word) in [
            (self.standard, "standard"),
            (!self.users.is_empty(), "users"),
            (!self.groups.is_empty(), "groups"),
            (!self.link.is_empty(), "link"),
            (!self.file.is_empty(), "file"),
        ] {
            if said {
                parts.push(word.to_owned());
            }
        }
        parts.join(", ")
    }
}

impl Config {
    fn check(&self) -> Result<()> {
        for port in &self.ports {
            port.text()?;
        }
        if let Some(bad) = self.env.keys().find(|k| k.is_empty() || k.contains('=')) {
            return Err(Error::invalid(format!("{bad:?} is no variable's name")));
        }
        let absolute = self.volumes.iter().chain(&self.workdir);
        match absolute.into_iter().find(|p| !p.starts_with('/')) {
            Some(bad) => Err(Error::invalid(format!("{bad:?} is no absolute path"))),
            None => Ok(()),
        }
    }
}

impl Default for Port {
    fn default() -> Self {
        Self::Number(0)
    }
}

impl json::Read for Port {
    fn read(&mut self, value: Value) -> std::result::Result<(), Wrong> {
        *self = match value {
            Value::String(text) => Self::Text(text),
            number => {
                let mut port = 0;
                port.read(number)?;
                Self::Number(port)
            }
        };
        Ok(())
    }
}

impl Port {
    /// `NUMBER/PROTOCOL`.
    pub(crate) fn text(&self) -> Result<String> {
        let text = match self {
            Self::Number(n) => return Ok(format!("{n}/tcp")),
            Self::Text(text) => text,
        };
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        match number.parse::<u16>() {
            Ok(n) if matches!(protocol, "tcp" | "udp" | "sctp") => Ok(format!("{n}/{protocol}")),
            _ => Err(Error::invalid(format!("{text:?} is no port: it is NUMBER[/tcp|udp|sctp]"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_recipe_is_said_with_its_place() {
        for (text, says) in [
            ("name = \"x\"\n", "no [[layer]]"),
            ("[[layer]]\n", "layer 1: it is made of nothing"),
            ("[[layer]]\nbin = [\"sh\"]\n\ncolour = 1\n", "line 4: unknown field `colour`"),
            ("[[layer]]\nbin = \"sh\"\n", "line 2: "),
            ("[[layer]\n", "line 1: "),
            ("[[layer]]\ndeb = { suite = \"a\", variant = \"none\" }\n", "names no packages"),
            ("[[layer]]\ndeb = { suite = \"a\", variant = \"big\" }\n", "not \"big\""),
            ("[[layer]]\nstandard = true\n[[layer]]\ndeb = { suite = \"a\" }\n", "layer 2: deb is a root"),
            ("[[layer]]\ndeb = { suite = \"\" }\n", "is no suite"),
            ("[[layer]]\n\ndeb = { suit = \"a\" }\n", "line 3: unknown field `suit`"),
            ("[[layer]]\ndir = \"a\"\ntar = \"b\"\n", "layers of their own"),
            ("[[layer]]\ntar = \"b\"\nstandard = true\n", "another layer"),
            ("[[layer]]\nbin = []\nowner = \"0:0\"\n", "belong to dir"),
            ("[[layer]]\ndir = \"a\"\nowner = \"me\"\n", "owner is UID:GID or keep, not \"me\""),
            ("[[layer]]\ndir = \"a\"\nmode = \"0755\"\n", "mode is plain or keep"),
            ("[[layer]]\nstandard = true\nusers = [{ name = \"a:b\", uid = 1 }]\n", "cannot stand in passwd"),
            (
                "[[layer]]\nusers = [{ name = \"a\", uid = 1 }, { name = \"a\", uid = 2 }]\n",
                "\"a\" is there twice",
            ),
            ("[[layer]]\n[layer.file]\n\"a\" = \"x\"\n\"a/b\" = \"y\"\n", "and a folder as well"),
            ("[[layer]]\nstandard = true\n[config]\nports = [\"x\"]\n", "is no port"),
            ("[[layer]]\nstandard = true\n[config]\nworkdir = \"x\"\n", "no absolute path"),
            (
                "[[layer]]\nstandard = true\n[boot]\nmodules = [\"a/b\"]\n",
                "[boot]: \"a/b\" is no module's name",
            ),
            ("[[layer]]\nstandard = true\n[boot]\nkernel = 1\n", "line 4: unknown field `kernel`"),
            ("[[layer]]\nstandard = true\n[config]\ncmdline = 1\n", "line 4: unknown field `cmdline`"),
        ] {
            let e = Recipe::parse(text).unwrap_err().to_string();
            assert!(e.contains(says), "{text:?}: {e}");
        }
    }
}
