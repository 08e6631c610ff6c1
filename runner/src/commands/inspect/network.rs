//! What `inspect` tells of a container's networks while it runs: addresses, and the ports that lead to it.

use serde_json::{Value, json};

use crate::commands::container::seen::Seen;
use crate::from_image::flags::Flags;
use crate::json::{set, set_all, shape};
use crate::network::{Attachment, bindings};

/// What was published, and which ports it listens on: with an image's those.
pub(super) fn asked(flags: &Flags, all: &mut Value) {
    let mut listens = flags.expose.clone();
    for [inside, ip, port] in bindings(&flags.publish) {
        let row = json!({"HostIp": ip, "HostPort": port});
        match all["HostConfig"]["PortBindings"][&inside].as_array_mut() {
            Some(list) => list.push(row),
            None => all["HostConfig"]["PortBindings"][&inside] = json!([row]),
        }
        listens.push(inside);
    }
    for [inside, ..] in bindings(&listens) {
        all["Config"]["ExposedPorts"][&inside] = json!({});
    }
    all["HostConfig"]["PublishAllPorts"] = flags.publish_all.into();
}

/// What is told of a network that gives no address.
const ENDPOINT: &str = r#"{"IPAMConfig":null,"Links":null,"Aliases":null,"NetworkID":"","EndpointID":"","Gateway":"","IPAddress":"",
"IPPrefixLen":0,"IPv6Gateway":"","GlobalIPv6Address":"","GlobalIPv6PrefixLen":0,"MacAddress":"","DriverOpts":null}"#;

/// Fill it in. `named` is what the flags call its network, where that gives no address.
pub(super) fn tell(seen: &Seen, named: &str, all: &mut Value) {
    let attachments = seen.attachments();
    if attachments.is_empty() {
        set(all, &format!("/NetworkSettings/Networks/{named}"), shape(ENDPOINT));
        return;
    }
    let settings = &mut all["NetworkSettings"];
    for one in &attachments {
        settings["Networks"][&one.network] = endpoint(one);
        for port in &one.ports {
            let inside = format!("{}/{}", port.inside, port.protocol.name());
            let outside = json!({"HostIp": port.host_ip.to_string(), "HostPort": port.host.to_string()});
            match settings["Ports"][&inside].as_array_mut() {
                Some(list) => list.push(outside),
                None => settings["Ports"][&inside] = json!([outside]),
            }
        }
    }
    settings["SandboxKey"] = format!("/proc/{}/ns/net", seen.pid()).into();
    // Of the network that all are on, docker tells here too.
    let first = endpoint(&attachments[0]);
    for member in [
        "Gateway",
        "IPAddress",
        "IPPrefixLen",
        "IPv6Gateway",
        "GlobalIPv6Address",
        "GlobalIPv6PrefixLen",
        "MacAddress",
    ] {
        settings[member] = first[member].clone();
    }
}

fn endpoint(of: &Attachment) -> Value {
    let mut all = shape(ENDPOINT);
    let aliases = if of.aliases.is_empty() { Value::Null } else { of.aliases.clone().into() };
    set_all(
        &mut all,
        vec![
            ("/NetworkID", of.network.as_str().into()),
            ("/EndpointID", of.device.as_str().into()),
            ("/MacAddress", of.mac.as_str().into()),
            ("/Aliases", aliases),
        ],
    );
    for (v6, ip, length, gateway) in [
        (false, "IPAddress", "IPPrefixLen", "Gateway"),
        (true, "GlobalIPv6Address", "GlobalIPv6PrefixLen", "IPv6Gateway"),
    ] {
        let Some(address) = of.ip(v6) else { continue };
        all[ip] = address.ip.to_string().into();
        all[length] = address.prefix.into();
        all[gateway] = address.gateway.to_string().into();
    }
    all
}
