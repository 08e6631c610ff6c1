//! The config of an image that a container becomes: that of its own image, with what the container was told instead.

use coracle_store::image::ProcessConfig;
use coracle_sys::{Error, Result};
use serde_json::Value;

/// Variables that every container is given, or that are of its terminal: they say nothing of the image.
const GIVEN: [&str; 3] = ["HOSTNAME", "HOME", "TERM"];

/// From the image's config and the container's record.
pub(crate) fn of(image: &ProcessConfig, record: &Value) -> Result<ProcessConfig> {
    let process = &record["spec"]["process"];
    let words = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|w| w.as_str().map(str::to_owned)).collect()
    };
    let args = words(&process["args"]);
    if args.is_empty() {
        return Err(Error::invalid("the container's record has no command"));
    }
    let mut p = image.clone();
    // Which words were the entry point's is known only by the image's own.
    match image.entrypoint.as_deref().unwrap_or_default() {
        [] => p.cmd = Some(args),
        own if args.starts_with(own) => p.cmd = Some(args[own.len()..].to_vec()).filter(|c| !c.is_empty()),
        _ => {
            p.entrypoint = Some(args[..1].to_vec());
            p.cmd = Some(args[1..].to_vec()).filter(|c| !c.is_empty());
        }
    }
    let mut env = image.env.clone().unwrap_or_default();
    for pair in words(&process["env"]) {
        let name = pair.split('=').next().unwrap_or_default();
        let known = env.iter_mut().find(|e| e.split('=').next() == Some(name));
        match known {
            Some(known) => *known = pair,
            None if GIVEN.contains(&name) => {}
            None => env.push(pair),
        }
    }
    p.env = Some(env).filter(|e| !e.is_empty());
    let cwd = process["cwd"].as_str().unwrap_or("/");
    if cwd != image.working_dir.as_deref().filter(|d| !d.is_empty()).unwrap_or("/") {
        p.working_dir = Some(cwd.to_owned());
    }
    // A name is kept: what it stands for is in the image's own /etc/passwd.
    let user = image.user.as_deref().unwrap_or_default();
    let id = |key: &str| process["user"][key].as_u64().unwrap_or(0);
    let mut numbers = user.split(':').map(str::parse::<u64>);
    let said = match (user, numbers.next(), numbers.next()) {
        ("", _, _) => Some((0, 0)),
        (_, Some(Ok(uid)), None) => Some((uid, id("gid"))),
        (_, Some(Ok(uid)), Some(Ok(gid))) => Some((uid, gid)),
        _ => None,
    };
    if said.is_some_and(|said| said != (id("uid"), id("gid"))) {
        p.user = Some(match id("gid") {
            0 => id("uid").to_string(),
            gid => format!("{}:{gid}", id("uid")),
        });
    }
    let labels = record["labels"].as_object().into_iter().flatten();
    let labels: Vec<_> = labels.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect();
    if !labels.is_empty() {
        p.labels.get_or_insert_default().extend(labels);
    }
    Ok(p)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_container_was_told_is_kept_and_what_all_are_given_is_not() {
        let list = |words: &[&str]| Some(words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
        let image = ProcessConfig {
            env: list(&["PATH=/bin", "A=1"]),
            entrypoint: list(&["/run", "it"]),
            cmd: list(&["old"]),
            user: Some("app".into()),
            ..ProcessConfig::default()
        };
        let record = |args: Value| {
            json!({"labels": {"k": "v"}, "spec": {"process": {
                "args": args,
                "env": ["PATH=/bin", "A=2", "HOSTNAME=x", "HOME=/root", "TERM=xterm", "B=3"],
                "cwd": "/work",
                "user": {"uid": 7, "gid": 8},
            }}})
        };
        let p = of(&image, &record(json!(["/run", "it", "now"]))).unwrap();
        assert_eq!((&p.entrypoint, &p.cmd), (&list(&["/run", "it"]), &list(&["now"])));
        assert_eq!(p.env, list(&["PATH=/bin", "A=2", "B=3"]));
        assert_eq!((p.working_dir.as_deref(), p.user.as_deref()), (Some("/work"), Some("app")));
        assert_eq!(p.labels.unwrap()["k"], "v");
        let p = of(&image, &record(json!(["sh", "-c", "x"]))).unwrap();
        assert_eq!((&p.entrypoint, &p.cmd), (&list(&["sh"]), &list(&["-c", "x"])));
        let p = of(&ProcessConfig::default(), &record(json!(["sh"]))).unwrap();
        assert_eq!((p.entrypoint, p.cmd, p.user.as_deref()), (None, list(&["sh"]), Some("7:8")));
        assert!(of(&image, &record(json!([]))).is_err());
    }
}
