//! Registries that let in who brings a signed token: Debian's docker-registry checks the signature and every claim,
//! and a token server of the tests' own signs.

use coracle_tests::noise::noise;
use coracle_tests::registry::{LOGIN, Registry, tool};
use coracle_tests::tokens::Tokens;
use coracle_tests::{Output, Privilege, Scratch, Store, need};

fn ready() -> bool {
    need(Privilege::Peer("docker-registry")) && need(Privilege::Peer("openssl"))
}

/// A store with the image `app`, of one layer that is worth being mounted.
fn with_image() -> Store {
    let store = Store::new("tokens");
    let recipe = Scratch::new("recipe");
    recipe.write("tree/opt/noise", noise(7, 1 << 20));
    recipe.write("rootfs.toml", "[[layer]]\ndir = \"tree\"\n");
    store.rootfs_tool().arg("compose").arg(recipe.path()).args(["-t", "app", "-q"]).ok();
    store
}

#[track_caller]
fn login(store: &Store, registry: &Registry, password: &str) -> Output {
    tool(store).args(["login", "-u", LOGIN.0, "--password-stdin", &registry.host]).stdin(password).run()
}

#[track_caller]
fn one_line(out: Output) -> Output {
    assert_eq!(out.stderr.trim_end().lines().count(), 1, "{out}");
    out
}

#[test]
fn with_a_signed_token_images_are_pushed_mounted_listed_pulled_and_deleted() {
    if !ready() {
        return;
    }
    let tokens = Tokens::start();
    let registry = Registry::with_tokens(&tokens);
    let store = with_image();
    let name = registry.name("team/app:1");
    let second = registry.name("team/second:1");
    let open = registry.name("public/app:1");
    for name in [&name, &second, &open] {
        tool(&store).args(["tag", "app", name]).ok();
    }
    one_line(tool(&store).args(["push", "-q", &name]).fails(1)).complains("401");
    one_line(login(&store, &registry, "wrong").fails(1)).complains("the password is wrong");
    one_line(tool(&store).args(["push", "-q", &name]).fails(1)).complains("401");
    login(&store, &registry, LOGIN.1).ok().prints("Login Succeeded");

    tool(&store).args(["push", &name]).ok().prints("Pushed");
    tool(&store).args(["push", &second]).ok().prints("Mounted from team/app");
    let scopes = tokens.scopes();
    for wanted in
        ["repository:team/app:pull,push", "repository:team/second:pull,push", "repository:team/app:pull"]
    {
        assert!(scopes.iter().any(|s| s == wanted), "{wanted} was not asked for: {scopes:?}");
    }
    tool(&store).args(["push", "-q", &open]).ok();
    assert_eq!(tool(&store).args(["tags", &registry.name("team/second")]).ok().text(), "1");
    let all = tool(&store).args(["catalog", &registry.host]).ok();
    assert_eq!(all.text(), "public/app\nteam/app\nteam/second");

    // Who has no password gets a token too, for what is open to all.
    let other = Store::new("tokens");
    tool(&other).args(["pull", "-q", &open]).ok();
    assert_eq!(other.image_id(&open), store.image_id("app"));
    one_line(tool(&other).args(["pull", "-q", &name]).fails(1)).complains("401");
    one_line(tool(&other).args(["tags", &registry.name("team/app")]).fails(1)).complains("401");
    login(&other, &registry, LOGIN.1).ok();
    let before = tokens.scopes().len();
    tool(&other).args(["pull", "-q", &name]).ok();
    let asked = tokens.scopes().split_off(before);
    assert_eq!(asked, ["repository:team/app:pull"], "one token, and no more rights than a pull needs");

    tool(&store).args(["delete", &name]).ok().prints("Deleted");
    one_line(tool(&other).args(["pull", "-q", &name]).fails(1)).complains("404");
    tool(&other).args(["pull", "-q", &second]).ok();
}

#[test]
fn a_token_that_the_registry_does_not_believe_is_one_clear_line_and_no_endless_asking() {
    if !ready() {
        return;
    }
    type Bend = fn(&mut serde_json::Value);
    let lies: [(&str, &str, Bend); 5] = [
        ("signed by a stranger", "stranger", |_| {}),
        ("of another issuer", "token", |claims| claims["iss"] = "somebody".into()),
        ("for another registry", "token", |claims| claims["aud"] = "other".into()),
        ("long over", "token", |claims| claims["exp"] = 1_000_000.into()),
        ("for nothing", "token", |claims| claims["access"] = serde_json::json!([])),
    ];
    let store = with_image();
    for (what, key, bend) in lies {
        let tokens = Tokens::bent(key, bend);
        let registry = Registry::with_tokens(&tokens);
        let name = registry.name("team/app:1");
        tool(&store).args(["tag", "app", &name]).ok();
        let auth = format!("{{\"auths\":{{\"{}\":{{\"auth\":\"dGVzdGVyOnNlY3JldA==\"}}}}}}", registry.host);
        store.scratch.write("home/.docker/config.json", auth);
        let out = one_line(tool(&store).args(["push", "-q", &name]).fails(1));
        out.complains("401").complains("team/app");
        assert_eq!(tokens.requests(), 1, "{what}");
    }
}
