//! Names inside: /etc/hosts, with the others of a network, kept up to date in place, since it is one file that is mounted;
//! and /etc/resolv.conf, without servers that only the host reaches.

use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use coracle_sys::{Context, Error, Result, file};

use super::lease::Attachment;

/// Between these lines stands what is ours to change; what is beside them is the container's.
const BEGIN: &str = "# the containers of its networks, by coracle\n";
const END: &str = "# until here\n";

/// What every container has in it; `more` are lines of the caller's.
pub(crate) fn base(names: &str, more: &str) -> String {
    let names = if names.is_empty() { String::new() } else { format!(" {names}") };
    format!(
        "127.0.0.1\tlocalhost{names}\n::1\tlocalhost ip6-localhost ip6-loopback{names}\nfe00::0\tip6-localnet\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n{more}"
    )
}

/// The lines of a container itself, and of the others of its networks.
pub(crate) fn block(own: &[&Attachment], others: &[&Attachment]) -> String {
    let mut text = BEGIN.to_owned();
    let mut line = |one: &Attachment, host_first: bool| {
        let mut words: Vec<&str> = Vec::new();
        let (first, second) =
            if host_first { (&one.hostname, &one.name) } else { (&one.name, &one.hostname) };
        let short = one.id.get(..12).unwrap_or(&one.id);
        let all = [first.as_str(), second, short].into_iter().chain(one.aliases.iter().map(String::as_str));
        for word in all.filter(|w| !w.is_empty()) {
            if !words.contains(&word) {
                words.push(word);
            }
        }
        for address in &one.addresses {
            let _ = writeln!(text, "{}\t{}", address.ip, words.join(" "));
        }
    };
    own.iter().for_each(|one| line(one, true));
    others.iter().for_each(|one| line(one, false));
    text + END
}

/// What the file is to be, when it is this now.
pub(crate) fn changed(now: &str, block: &str) -> String {
    let end = now.find(BEGIN).and_then(|at| now[at..].find(END).map(|n| at + n + END.len()));
    // The nearest: the container may have left one without an end, and lines behind it.
    let begin = end.and_then(|end| now[..end].rfind(BEGIN));
    match begin.zip(end) {
        Some((begin, end)) => [&now[..begin], block, &now[end..]].concat(),
        None if now.is_empty() || now.ends_with('\n') => [now, block].concat(),
        None => [now, "\n", block].concat(),
    }
}

/// Write the block into a file that may be in use; with a base, as a new one.
pub(crate) fn write(path: &Path, base: Option<&str>, block: &str) -> Result<()> {
    let now = match base {
        Some(base) => base.to_owned(),
        None => String::from_utf8_lossy(&file::read_plain(path)?).into_owned(),
    };
    let text = changed(&now, block);
    if base.is_none() && text == now {
        return Ok(());
    }
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = File::options().write(true).custom_flags(flags).open(path);
    let file = file.context(|| format!("open({path:?}, O_WRONLY)"))?;
    file.write_all_at(text.as_bytes(), 0)
        .and_then(|()| file.set_len(text.len() as u64))
        .context(|| format!("write({path:?})"))
}

/// `--dns`, `--dns-search`, `--dns-option`.
#[derive(Clone, Copy)]
pub(crate) struct Resolve<'a> {
    pub(crate) servers: &'a [String],
    pub(crate) search: &'a [String],
    pub(crate) options: &'a [String],
}

impl Resolve<'_> {
    /// Words that would be lines of their own, and servers that are none, are refused.
    pub(crate) fn check(&self) -> Result<()> {
        self.servers.iter().try_for_each(|ip| super::address::Ip::parse(ip).map(drop).context(|| "--dns"))?;
        for (flag, words) in [("--dns-search", self.search), ("--dns-option", self.options)] {
            if let Some(word) = words.iter().find(|w| w.is_empty() || w.contains(char::is_whitespace)) {
                return Err(Error::usage(format!("{flag} {word:?}: it is one word")));
            }
        }
        Ok(())
    }

    /// The file, by the host's. Where the container has a network of its own, a server that listens on the host's
    /// loopback device is nobody there.
    pub(crate) fn text(&self, host: &str, own_network: bool) -> String {
        let (mut servers, mut search, mut options) = (Vec::new(), Vec::new(), Vec::new());
        for line in host.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => servers.extend(words.next()),
                Some("search" | "domain") => search = words.collect(),
                Some("options") => options.extend(words),
                _ => {}
            }
        }
        let changed = |own: &[String]| !own.is_empty();
        let unchanged = !(changed(self.servers) || changed(self.search) || changed(self.options));
        let loopback = |ip: &str| ip.starts_with("127.") || ip.starts_with("::1");
        if unchanged && !(own_network && servers.iter().any(|ip| loopback(ip))) {
            return host.to_owned();
        }
        if own_network {
            servers.retain(|ip| !loopback(ip));
        }
        let of = |own: &[String], hosts: &[&str]| match own {
            [] => hosts.iter().map(|w| (*w).to_owned()).collect(),
            own => own.to_vec(),
        };
        let mut text = String::new();
        for server in of(self.servers, &servers) {
            let _ = writeln!(text, "nameserver {server}");
        }
        // `.` is how none is said.
        let search = of(self.search, &search);
        if !search.is_empty() && search != ["."] {
            let _ = writeln!(text, "search {}", search.join(" "));
        }
        let options = of(self.options, &options);
        if !options.is_empty() {
            let _ = writeln!(text, "options {}", options.join(" "));
        }
        text
    }
}

/// The host's resolv.conf: where systemd-resolved keeps itself in between, the one that it reads.
pub(crate) fn host_resolv() -> String {
    let read = |path: &str| {
        let bytes = file::read_plain(Path::new(path)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let text = read("/etc/resolv.conf");
    let servers = || text.lines().filter(|l| l.starts_with("nameserver"));
    if servers().count() > 0 && servers().all(|l| l.contains("127.0.0.53") || l.contains("127.0.0.54")) {
        let behind = read("/run/systemd/resolve/resolv.conf");
        if !behind.is_empty() {
            return behind;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::address::Ip;
    use super::super::lease::Address;
    use super::*;

    fn one(name: &str, ip: &str, aliases: &[&str]) -> Attachment {
        let ip = Ip::parse(ip).unwrap();
        Attachment {
            id: format!("{name}-0123456789abcdef"),
            name: name.into(),
            hostname: format!("{name}-host"),
            aliases: aliases.iter().map(|a| (*a).to_owned()).collect(),
            addresses: vec![Address { ip, ..Address::default() }],
            ..Attachment::default()
        }
    }

    #[test]
    fn the_others_come_and_go_and_what_the_container_wrote_stays() {
        let (web, db) = (one("web", "10.0.0.2", &["www", "web"]), one("db", "10.0.0.3", &[]));
        let first = changed(&base("", "1.2.3.4\textra\n"), &block(&[&web], &[]));
        assert!(first.contains("10.0.0.2\tweb-host web web-01234567 www\n"), "{first}");
        let mine = first.replace(END, &format!("{END}9.9.9.9\tmine\n"));
        let both = changed(&mine, &block(&[&web], &[&db]));
        assert!(both.contains("10.0.0.3\tdb db-host db-012345678\n"), "{both}");
        assert!(both.contains("9.9.9.9\tmine\n") && both.contains("1.2.3.4\textra\n"));
        assert_eq!(changed(&both, &block(&[&web], &[])), mine);
        // One who removed the lines gets them again, behind what is there.
        assert!(changed("mine", &block(&[], &[&db])).starts_with(&format!("mine\n{BEGIN}")));
        assert!(changed(BEGIN, &block(&[], &[])).ends_with(END));
    }

    #[test]
    fn the_hosts_servers_are_taken_but_for_those_of_its_loopback_device() {
        let host = "# x\nnameserver 127.0.0.53\nnameserver 192.0.2.1\nsearch a b\noptions edns0\n";
        let none = Resolve { servers: &[], search: &[], options: &[] };
        assert_eq!(none.text(host, false), host);
        assert_eq!(none.text(host, true), "nameserver 192.0.2.1\nsearch a b\noptions edns0\n");
        let plain = "nameserver 192.0.2.1\n";
        assert_eq!(none.text(plain, true), plain);
        let (servers, search) = (["1.1.1.1".to_owned()], [".".to_owned()]);
        let own = Resolve { servers: &servers, search: &search, options: &[] };
        assert_eq!(own.text(host, true), "nameserver 1.1.1.1\noptions edns0\n");
        let bad = ["a\nnameserver 6.6.6.6".to_owned()];
        assert!(Resolve { search: &bad, ..none }.check().is_err());
        assert!(Resolve { servers: &bad, ..none }.check().is_err());
    }
}
