//! `rootfs-tool container-cp`: `runner cp`.

use std::fs::File;
use std::io::{BufWriter, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

use argh::{ArgsInfo, FromArgs};
use coracle_store::layer::decompress;
use coracle_sys::{Context, Error, Result, file};
use nix::errno::Errno;

use super::open;
use crate::archive::packed;
use crate::container::Container;
use crate::container::child::{Child, pipe};
use crate::container::confined::Confined;
use crate::container::host;
use crate::container::inside::Inside;
use crate::container::paths::{Side, Source, land};
use crate::container::read::Tar;
use crate::container::root::Running;
use crate::container::write::Unpack;
use crate::streams;

/// Copy files between a container and the host. `runner cp` does it of one that runs, too.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "container-cp",
    example = "runner cp my-container:/etc/hosts .
tar -c src | runner cp - my-container:/tmp"
)]
pub(crate) struct ContainerCp {
    /// keep owners; else files are root's inside, and the caller's outside
    #[argh(switch, short = 'a')]
    archive: bool,
    /// copy what the source leads to where it is a link
    #[argh(switch, short = 'L')]
    follow_link: bool,
    /// say nothing of it
    #[argh(switch, short = 'q')]
    quiet: bool,
    /// a descriptor of the root of one that runs: the runner's to say
    #[argh(option, arg_name = "FD")]
    root_fd: Option<i32>,
    /// a descriptor of its user namespace: the runner's to say
    #[argh(option, arg_name = "FD")]
    user_fd: Option<i32>,
    /// the store: RW[:RO...]
    #[argh(option, arg_name = "DIR")]
    store: Option<String>,
    /// CONTAINER:PATH, a path, or - for a tar
    #[argh(positional, arg_name = "from")]
    from: String,
    /// CONTAINER:PATH, a path, or - for a tar
    #[argh(positional, arg_name = "to")]
    to: String,
}

impl ContainerCp {
    /// Run it.
    pub(crate) fn run(self) -> Result<()> {
        let store = open(self.store.as_deref())?;
        let running = self.root_fd.map(|root| Running { root, user: self.user_fd });
        let inside = |name: &str, path: &str| -> Result<Inside> {
            let container = Container::find(&store, name)?;
            Ok(Inside {
                store: store.clone(),
                container,
                running,
                named: name.to_owned(),
                path: path.to_owned(),
            })
        };
        let bytes = match (Side::of(&self.from), Side::of(&self.to)) {
            (Side::Container(..), Side::Container(..)) => {
                return Err(Error::usage("copying between containers is not supported"));
            }
            (Side::Container(name, path), to) => self.bring_out(inside(&name, &path)?, &to)?,
            (from, Side::Container(name, path)) => self.bring_in(&from, inside(&name, &path)?)?,
            _ => return Err(Error::usage("must specify at least one container source")),
        };
        // As docker says it, to people alone.
        if let Some(bytes) = bytes
            && !self.quiet
            && std::io::stderr().is_terminal()
        {
            let size = coracle_sys::table::size(bytes);
            coracle_sys::warn!("Successfully copied {size} to {}", coracle_sys::print::harmless(&self.to));
        }
        Ok(())
    }

    /// Out of a container.
    fn bring_out(&self, inside: Inside, to: &Side) -> Result<Option<u64>> {
        let follow = self.follow_link;
        let Side::Local(to) = to else {
            streams::write(None, |mut out| {
                let (child, _) = Child::begin(None, || inside.pack(follow, None, &mut out))?;
                child.end().map(|()| out)
            })?;
            return Ok(None);
        };
        let owner = host::owner(self.archive)?;
        let to = host::absolute(to)?;
        host::may_be_written(&to)?;
        let (from, into) = pipe()?;
        let (child, from) = Child::begin(Some(from), || {
            let mut head = into.try_clone().context(|| "dup()")?;
            inside.pack(follow, Some(&mut head), BufWriter::with_capacity(256 << 10, into))
        })?;
        let mut counted = Counted { inner: from, bytes: 0 };
        let unpacked = (|| {
            let source = Source::read(&mut counted)?;
            counted.bytes = 0;
            let landing = land(&source, &host::target(&to)?)?;
            let root = Confined::folder(file::open_dir(&landing.dir)?);
            Unpack::new(&root, Path::new(""), landing.rename, owner).run(&mut counted)
        })();
        counted.inner = None;
        // What went wrong here is why it could not be written there.
        match (child.end(), unpacked) {
            (Err(there), Err(here)) if broke_off(&there) => Err(here),
            (Err(there), _) => Err(there),
            (Ok(()), unpacked) => unpacked.map(|()| Some(counted.bytes)),
        }
    }

    /// Into a container.
    fn bring_in(&self, from: &Side, inside: Inside) -> Result<Option<u64>> {
        let local = match from {
            Side::Local(path) => Some(host::source(path, self.follow_link)?),
            _ => None,
        };
        let stream = if local.is_none() { Some(streams::input(None)?) } else { None };
        let source = local.as_ref().map(|local| &local.source);
        let (read, write) = pipe()?;
        let (child, write) = Child::begin(Some(write), || inside.unpack(source, self.archive, read))?;
        let mut counted = Counted { inner: write, bytes: 0 };
        let written = (|| match (&local, stream) {
            (Some(local), _) => {
                let mut tar = Tar::new(BufWriter::with_capacity(256 << 10, &mut counted));
                tar.put(local.dir.as_fd(), local.name.as_ref(), &local.source.name)?;
                tar.finish()
            }
            (None, Some(stream)) => {
                // Nothing of a container is needed, or run, to decompress it.
                let input = std::io::BufReader::with_capacity(256 << 10, packed::open(stream)?);
                let mut input = decompress(input, None)?;
                std::io::copy(&mut input, &mut counted).context(|| "read the archive").map(drop)
            }
            (None, None) => Ok(()),
        })();
        counted.inner = None;
        match (written, child.end()) {
            (Err(here), Err(there)) if broke_off(&here) => Err(there),
            (Err(here), _) => Err(here),
            (Ok(()), there) => there.map(|()| Some(counted.bytes)),
        }
    }
}

/// Was it the other side that ended first?
fn broke_off(e: &Error) -> bool {
    e.errno() == Some(Errno::EPIPE) || e.to_string().ends_with(Errno::EPIPE.desc())
}

/// One end of a pipe, and the bytes that went through it.
struct Counted {
    inner: Option<File>,
    bytes: u64,
}

impl Counted {
    fn count(&mut self, n: usize) -> usize {
        self.bytes += n as u64;
        n
    }
}

impl Read for Counted {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.as_mut().map_or(Ok(0), |inner| inner.read(buf))?;
        Ok(self.count(n))
    }
}

impl Write for Counted {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        let n = self.inner.as_mut().map_or(Ok(0), |inner| inner.write(buf))?;
        Ok(self.count(n))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
