//! What a registry asks for: the header `WWW-Authenticate` (RFC 9110, section 11.6.1).

/// One challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The scheme, in lower case: `bearer`, `basic`.
    pub scheme: String,
    /// Its parameters, their names in lower case.
    pub parameters: Vec<(String, String)>,
}

impl Challenge {
    /// A parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// All challenges of a header's value. What is not understood is passed over.
pub fn parse(text: &str) -> Vec<Challenge> {
    let mut out: Vec<Challenge> = Vec::new();
    let mut rest = Rest(text);
    loop {
        rest.skip(|c| c == ',' || c.is_ascii_whitespace());
        let word = rest.token();
        if word.is_empty() {
            // Something else stands here: go behind it.
            if rest.0.is_empty() {
                return out;
            }
            let width = rest.0.chars().next().map_or(1, char::len_utf8);
            rest.0 = &rest.0[width..];
            continue;
        }
        rest.skip(|c| c == ' ' || c == '\t');
        match rest.0.strip_prefix('=') {
            Some(after) => {
                rest.0 = after;
                rest.skip(|c| c == ' ' || c == '\t');
                let value = rest.value();
                if let Some(last) = out.last_mut() {
                    last.parameters.push((word.to_ascii_lowercase(), value));
                }
            }
            None => out.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: Vec::new() }),
        }
    }
}

struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn skip(&mut self, what: impl Fn(char) -> bool) {
        self.0 = self.0.trim_start_matches(what);
    }

    fn token(&mut self) -> &'a str {
        let end = self.0.find(|c: char| !is_token(c)).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        token
    }

    /// A token, or a string in quotes with `\` before what is to be taken as it is.
    fn value(&mut self) -> String {
        let Some(quoted) = self.0.strip_prefix('"') else { return self.token().to_owned() };
        let mut out = String::new();
        let mut chars = quoted.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.0 = &quoted[at + 1..];
                    return out;
                }
                '\\' => out.extend(chars.next().map(|(_, c)| c)),
                c => out.push(c),
            }
        }
        self.0 = "";
        out
    }
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenges_that_registries_send_are_read() {
        let all = parse(
            r#"Bearer realm="https://auth.example/token",service="reg, \"x\"",scope="repository:a/b:pull,push", Basic realm=plain"#,
        );
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].get("realm"), Some("https://auth.example/token"));
        assert_eq!(all[0].get("service"), Some("reg, \"x\""));
        assert_eq!(all[0].get("scope"), Some("repository:a/b:pull,push"));
        assert_eq!((all[1].scheme.as_str(), all[1].get("realm")), ("basic", Some("plain")));
        assert!(parse("").is_empty());
        assert_eq!(parse("BASIC")[0].scheme, "basic");
        assert_eq!(parse("Bearer REALM = \"x\"")[0].get("realm"), Some("x"));
    }

    #[test]
    fn no_mutation_of_a_challenge_stops_the_parser() {
        let seed_text = r#"Bearer realm="https://a.b/t",service="r",scope="x:y:z", Basic realm="é""#;
        let mut seed = 5u64;
        let mut next = move || {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) as usize
        };
        for _ in 0..20_000 {
            let mut text: Vec<char> = seed_text.chars().collect();
            for _ in 0..1 + next() % 4 {
                let at = next() % text.len();
                match next() % 3 {
                    0 => text[at] = ['"', '\\', '=', ',', ' ', '\0', 'é'][next() % 7],
                    1 => text.truncate(at.max(1)),
                    _ => text.insert(at, ['"', '\\', '=', ',', ' ', '\t', 'ß'][next() % 7]),
                }
            }
            let text: String = text.into_iter().collect();
            for challenge in parse(&text) {
                assert!(!challenge.scheme.is_empty() && challenge.scheme.chars().all(is_token));
            }
        }
    }
}
