//! A token server of docker's registries (distribution's "Token Authentication"): it says what a client may do, and
//! signs that. The registry believes who holds a key under its certificate, and checks all of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::liar::{Asked, Liar, Reply, Served};
use crate::registry::LOGIN;
use crate::{Cmd, Scratch};

/// What the registry calls itself.
pub const SERVICE: &str = "tests";
const ISSUER: &str = "issuer of the tests";

/// Changes the claims of a token before they are signed.
type Bend = dyn Fn(&mut Value) + Send + Sync;

/// The server. Who shows [`LOGIN`] may do all; who shows nothing may pull from `public/`.
pub struct Tokens {
    liar: Liar,
    /// `token.crt` with its key, and a stranger's that no registry was told of.
    keys: Arc<Scratch>,
}

impl Tokens {
    /// Honest. The caller has asked `need(Privilege::Peer("openssl"))` before.
    pub fn start() -> Self {
        Self::bent("token", |_| {})
    }

    /// With other claims than are true, or with the key of a `stranger`.
    pub fn bent(key: &'static str, bend: impl Fn(&mut Value) + Send + Sync + 'static) -> Self {
        let scratch = Scratch::new("tokens");
        for name in ["token", "stranger"] {
            let new = "req -x509 -newkey rsa:2048 -nodes -days 30";
            let line = format!("{new} -keyout {name}.key -out {name}.crt -subj /CN={name}");
            Cmd::new("openssl").words(&line).dir(scratch.path()).ok();
        }
        let keys = Arc::new(scratch);
        let held = Arc::clone(&keys);
        let bend: Box<Bend> = Box::new(bend);
        let liar =
            Liar::start(Served::default(), move |_, asked| Some(answer(asked, &held, key, bend.as_ref())));
        Self { liar, keys }
    }

    /// The section `auth` of a registry's configuration.
    pub fn section(&self) -> String {
        format!(
            "auth: {{token: {{realm: \"http://{}/token\", service: {SERVICE}, issuer: \"{ISSUER}\", \
             rootcertbundle: {}}}}}\n",
            self.liar.host,
            self.keys.join("token.crt").display()
        )
    }

    /// The scopes that were asked for, in their order.
    pub fn scopes(&self) -> Vec<String> {
        self.liar.asked().iter().flat_map(|a| values(a, "scope")).collect()
    }

    /// How many requests there were.
    pub fn requests(&self) -> usize {
        self.liar.asked().len()
    }
}

fn answer(asked: &Asked, keys: &Scratch, key: &str, bend: &Bend) -> Reply {
    let refused =
        |status| Reply::new(status, r#"{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}"#);
    let wanted = format!("Basic {}", base64(format!("{}:{}", LOGIN.0, LOGIN.1).as_bytes(), PLAIN));
    let known = match asked.headers.get("authorization") {
        Some(header) if *header == wanted => true,
        Some(_) => return refused(401),
        None => false,
    };
    if values(asked, "service") != [SERVICE] {
        return refused(400);
    }
    let access: Vec<Value> = values(asked, "scope").iter().filter_map(|s| grant(s, known)).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let mut claims = json!({"iss": ISSUER, "sub": "", "aud": SERVICE, "exp": now + 300, "nbf": now - 10,
        "iat": now, "jti": "1", "access": access});
    bend(&mut claims);
    Reply::new(200, json!({"token": sign(keys, key, &claims), "expires_in": 300}).to_string())
}

/// What a scope, `repository:a/b:pull,push`, grants.
fn grant(scope: &str, known: bool) -> Option<Value> {
    let (kind, rest) = scope.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    let open = |action: &&str| known || (*action == "pull" && name.starts_with("public/"));
    let actions: Vec<&str> = actions.split(',').filter(open).collect();
    Some(json!({"type": kind, "name": name, "actions": actions}))
}

/// A JSON web token (RFC 7519), signed by RS256, with the certificate of the key in its header.
fn sign(keys: &Scratch, key: &str, claims: &Value) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let pem = std::fs::read_to_string(keys.join(format!("{key}.crt"))).expect("the certificate");
    let der: String = pem.lines().filter(|l| !l.starts_with("-----")).collect();
    let header = json!({"typ": "JWT", "alg": "RS256", "x5c": [der]});
    let part = |value: &Value| base64(value.to_string().as_bytes(), FOR_URLS);
    let text = format!("{}.{}", part(&header), part(claims));
    let out = format!("{}.sig", NEXT.fetch_add(1, Ordering::Relaxed));
    let line = format!("dgst -sha256 -sign {key}.key -out {out}");
    Cmd::new("openssl").words(&line).dir(keys.path()).stdin(text.clone()).ok();
    let signature = std::fs::read(keys.join(out)).expect("the signature");
    format!("{text}.{}", base64(&signature, FOR_URLS))
}

/// The values of a query's key.
fn values(asked: &Asked, key: &str) -> Vec<String> {
    let query = asked.path.split_once('?').map_or("", |(_, query)| query);
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(k, _)| *k == key).map(|(_, v)| decoded(v)).collect()
}

fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (code, rest) = part.split_at(2);
        out.push(char::from(u8::from_str_radix(code, 16).expect("two digits of a byte")));
        out.push_str(rest);
    }
    out
}

/// The last two digits of base 64, and whether it is filled up.
type Alphabet = (u8, u8, bool);
const PLAIN: Alphabet = (b'+', b'/', true);
const FOR_URLS: Alphabet = (b'-', b'_', false);

/// Base 64 (RFC 4648).
fn base64(bytes: &[u8], (plus, slash, filled): Alphabet) -> String {
    let digit = |n: u32| match n as u8 & 63 {
        n @ 0..26 => b'A' + n,
        n @ 26..52 => b'a' + n - 26,
        n @ 52..62 => b'0' + n - 52,
        62 => plus,
        _ => slash,
    };
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let n = group.iter().fold(0, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - group.len()));
        let digits = (0..=group.len()).map(|at| char::from(digit(n >> (18 - 6 * at))));
        out.extend(digits);
        out.extend((group.len()..3).filter(|_| filled).map(|_| '='));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (text, plain) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(text.as_bytes(), PLAIN), plain);
            assert_eq!(base64(text.as_bytes(), FOR_URLS), plain.trim_end_matches('='));
        }
        assert_eq!(
            (base64(&[0xfb, 0xff], PLAIN), base64(&[0xfb, 0xff], FOR_URLS)),
            ("+/8=".into(), "-_8".into())
        );
    }
}
