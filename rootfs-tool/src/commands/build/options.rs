//! What the flags of `build` mean: those of docker that go on to the runner, those that are so anyhow, and those that are
//! refused by name.

use std::collections::BTreeMap;

use coracle_sys::{Error, Result, order};

use super::Build;
use crate::dockerfile::build::{GATEWAY, Options};
use crate::dockerfile::secrets;

impl Build {
    pub(super) fn options(&self) -> Result<Options> {
        let mut args = BTreeMap::new();
        for text in &self.build_arg {
            match text.split_once('=') {
                Some((name, value)) if !name.is_empty() => {
                    drop(args.insert(name.to_owned(), value.to_owned()))
                }
                None if !text.is_empty() => {
                    if let Ok(value) = std::env::var(text) {
                        args.insert(text.clone(), value);
                    }
                }
                _ => return Err(Error::usage(format!("--build-arg {text:?}: it is NAME=VALUE or NAME"))),
            }
        }
        let label = |text: &String| match text.split_once('=').unwrap_or((text, "")) {
            ("", _) => Err(Error::usage(format!("--label {text:?}: it is NAME=VALUE"))),
            (name, value) => Ok((name.to_owned(), value.to_owned())),
        };
        let host = |text: &String| match text.split_once(['=', ':']) {
            Some((name, ip))
                if !name.is_empty()
                    && (ip == GATEWAY || ip.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok()) =>
            {
                Ok((name.to_owned(), ip.trim_matches(['[', ']']).to_owned()))
            }
            _ => Err(Error::usage(format!("--add-host {text:?}: it is NAME:ADDRESS or NAME:{GATEWAY}"))),
        };
        match self.network.as_deref() {
            None | Some("default" | "none" | "host") => {}
            Some(other) => {
                return Err(Error::usage(format!("--network {other}: there are default, none and host")));
            }
        }
        self.refuse()?;
        Ok(Options {
            target: self.target.clone(),
            args,
            labels: order::map(self.label.iter().map(label))?,
            platform: self.platform.as_deref().map(str::parse).transpose()?,
            no_cache: self.no_cache,
            no_cache_of: self.no_cache_filter.iter().flat_map(|s| s.split(',')).map(str::to_owned).collect(),
            pull: self.pull,
            network: self.network.clone().filter(|n| n != "default"),
            // Who gives all the host's network needs not say so twice.
            allowed: (self.network.as_deref() == Some("host"))
                .then(|| "network.host".to_owned())
                .into_iter()
                .chain(self.allow.iter().flat_map(|text| text.split(',')).map(str::to_owned))
                .collect(),
            hosts: self.add_host.iter().map(host).collect::<Result<_>>()?,
            flags: self.flags_of_run(),
            annotations: self.annotation.iter().map(|text| annotation(text)).collect::<Result<_>>()?,
            secrets: self.secret.iter().map(|s| s.parse()).collect::<Result<_>>()?,
            agents: self.ssh.iter().map(|s| secrets::agent(s)).collect::<Result<_>>()?,
            tls_verify: self.tls_verify,
        })
    }

    /// Limits of each RUN, which the runner sets.
    fn flags_of_run(&self) -> Vec<String> {
        let many = |name: &'static str, values: &[String]| -> Vec<String> {
            values.iter().map(|value| format!("{name}={value}")).collect()
        };
        let mut out = many("--ulimit", &self.ulimit);
        for (name, value) in [
            ("--shm-size", &self.shm_size),
            ("--memory", &self.memory),
            ("--memory-swap", &self.memory_swap),
            ("--cpu-period", &self.cpu_period),
            ("--cpu-quota", &self.cpu_quota),
            ("--cpu-shares", &self.cpu_shares),
            ("--cpuset-cpus", &self.cpuset_cpus),
            ("--cpuset-mems", &self.cpuset_mems),
        ] {
            out.extend(value.iter().map(|value| format!("{name}={value}")));
        }
        out
    }

    /// What docker has and we have not is an error that says why, rather than nothing.
    fn refuse(&self) -> Result<()> {
        let no = |text: &Option<String>| text.as_deref().is_none_or(|v| matches!(v, "false" | "0"));
        let none = "no attestation is made of a build: an image is the same bytes whoever builds it";
        let kinds = || self.attest.iter().any(|v| !v.split(',').any(|field| field == "disabled=true"));
        for (said, flag, why) in [
            (!no(&self.provenance), "--provenance", none),
            (!no(&self.sbom), "--sbom", none),
            (kinds(), "--attest", none),
            (
                !self.build_context.is_empty(),
                "--build-context",
                "there is the one context; another folder goes in by --mount or a stage of its own",
            ),
            (!self.cache_to.is_empty(), "--cache-to", "the store keeps the cache; copy or push the image"),
            (self.cgroup_parent.is_some(), "--cgroup-parent", "groups are made below the caller's own"),
            (self.squash, "--squash", "it would share no layer; copy the last stage FROM scratch instead"),
            (self.builder.is_some(), "--builder", "there is no daemon that builds, and so no choice of one"),
            (self.push && self.output.is_some(), "--push", "it does not go with --output"),
            (self.load && self.output.is_some(), "--load", "it does not go with --output"),
            (
                self.push && self.tag.is_empty(),
                "--push",
                "it takes a name that says where the image goes: -t REGISTRY/NAME",
            ),
        ] {
            if said {
                return Err(Error::usage(format!("{flag}: {why}")));
            }
        }
        for text in self.allow.iter().flat_map(|text| text.split(',')) {
            if !matches!(text, "network.host" | "security.insecure") {
                return Err(Error::usage(format!(
                    "--allow {text}: there are network.host and security.insecure"
                )));
            }
        }
        match self.isolation.as_deref() {
            None | Some("default" | "") => Ok(()),
            Some(other) => Err(Error::usage(format!("--isolation {other}: on Linux there is default"))),
        }
    }
}

/// `[manifest:]NAME=VALUE`.
fn annotation(text: &str) -> Result<(String, String)> {
    let bad = |why: &str| Error::usage(format!("--annotation {text:?}: {why}"));
    let (name, value) = text.split_once('=').ok_or_else(|| bad("it is NAME=VALUE"))?;
    let name = match name.split_once(':') {
        Some(("manifest", name)) => name,
        Some((place @ ("index" | "index-descriptor" | "manifest-descriptor"), _)) => {
            return Err(bad(&format!("an image of one platform has no {place} of its own")));
        }
        Some((place, _)) if place.contains('[') => {
            return Err(bad("the image is of one platform"));
        }
        _ => name,
    };
    match name.is_empty() {
        true => Err(bad("the name is missing")),
        false => Ok((name.to_owned(), value.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::annotation;

    #[test]
    fn an_annotation_is_of_the_manifest() {
        let of = |text: &str| annotation(text).map(|(n, v)| format!("{n} {v}"));
        assert_eq!(of("a.b=c=d").unwrap(), "a.b c=d");
        assert_eq!(of("manifest:a=").unwrap(), "a ");
        for bad in ["", "a", "=b", "manifest:=x", "index:a=b", "manifest[linux/amd64]:a=b"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
