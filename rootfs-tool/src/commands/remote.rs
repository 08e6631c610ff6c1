//! What is asked of a registry alone: `rootfs-tool tags`, `catalog` and `delete`.

use argh::{ArgsInfo, FromArgs};
use coracle_store::Reference;
use coracle_sys::print::harmless;
use coracle_sys::{Error, Result};

use crate::registry::{self, Credentials, Repository};

/// List the tags of a repository in its registry.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "tags", example = "rootfs-tool tags localhost:5000/team/app")]
pub(crate) struct Tags {
    /// print one JSON array
    #[argh(switch)]
    json: bool,
    /// false allows plain HTTP and any certificate
    #[argh(option, long = "tls-verify", arg_name = "BOOL")]
    tls_verify: Option<bool>,
    /// the repository
    #[argh(positional, arg_name = "repository")]
    repository: String,
}

impl Tags {
    /// Run it.
    pub(crate) fn run(self) -> Result<()> {
        let reference: Reference = self.repository.parse()?;
        if reference.tag.is_some() || reference.digest.is_some() {
            return Err(Error::usage(format!("tags of {:?}: a repository has no tag", self.repository)));
        }
        let tags = Repository::to_pull(&reference, self.tls_verify)?.tags();
        print(&tags.map_err(|e| e.wrap(format!("list the tags of {}", self.repository)))?, self.json)
    }
}

/// List the repositories of a registry.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "catalog", example = "rootfs-tool catalog localhost:5000")]
pub(crate) struct Catalog {
    /// print one JSON array
    #[argh(switch)]
    json: bool,
    /// false allows plain HTTP and any certificate
    #[argh(option, long = "tls-verify", arg_name = "BOOL")]
    tls_verify: Option<bool>,
    /// the registry's host, with its port
    #[argh(positional, arg_name = "registry")]
    registry: String,
}

impl Catalog {
    /// Run it.
    pub(crate) fn run(self) -> Result<()> {
        let host = registry::host_of(&self.registry);
        let login = Credentials::read()?.of(host, "")?;
        let names = registry::client_of(host, self.tls_verify, login)?.catalog();
        print(&names.map_err(|e| e.wrap(format!("list the repositories of {host}")))?, self.json)
    }
}

/// Delete an image from its registry: the manifest, with every tag that it has there.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "delete", example = "rootfs-tool delete localhost:5000/team/app:old")]
pub(crate) struct Delete {
    /// false allows plain HTTP and any certificate
    #[argh(option, long = "tls-verify", arg_name = "BOOL")]
    tls_verify: Option<bool>,
    /// its name there, with a tag or a digest
    #[argh(positional, arg_name = "reference")]
    reference: String,
}

impl Delete {
    /// Run it.
    pub(crate) fn run(self) -> Result<()> {
        let reference: Reference = self.reference.parse()?;
        if reference.tag.is_none() && reference.digest.is_none() {
            return Err(Error::usage(format!(
                "delete {:?}: say which, by a tag or a digest",
                self.reference
            )));
        }
        let delete = |e: Error| e.wrap(format!("delete {}", self.reference));
        let repository = Repository::to_delete(&reference, self.tls_verify)?;
        let digest = match (reference.digest, &reference.tag) {
            (Some(digest), _) => digest,
            (None, tag) => repository.manifest(tag.as_deref().unwrap_or_default()).map_err(delete)?.0.digest,
        };
        repository.delete(&digest).map_err(delete)?;
        coracle_sys::say!("Deleted: {}@{digest}", repository.name);
        Ok(())
    }
}

fn print(names: &[String], json: bool) -> Result<()> {
    match json {
        true => coracle_sys::print::json(&names.into(), false),
        false => names.iter().for_each(|n| coracle_sys::say!("{}", harmless(n))),
    }
    Ok(())
}
