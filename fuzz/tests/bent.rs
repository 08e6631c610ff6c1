//! Every target with bent seeds: bytes changed, cut, doubled and spliced; and of documents their members. How often is
//! set by CORACLE_FUZZ_ROUNDS.

use coracle_fuzz::TARGETS;
use serde_json::{Value, json};

/// A small generator, the same every time (Knuth's MMIX).
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % n.max(1)
    }
}

fn bend(seeds: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    let mut data = seeds[chance.below(seeds.len())].clone();
    for _ in 0..1 + chance.below(6) {
        if data.is_empty() {
            break;
        }
        let at = chance.below(data.len());
        match chance.below(6) {
            0 => data[at] = chance.below(256) as u8,
            1 => data[at] ^= 1 << chance.below(8),
            2 => data.truncate(at),
            3 => drop(data.remove(at)),
            4 => data.insert(at, b"{}[]\",:0@/=\\\0\xff"[chance.below(14)]),
            _ => {
                let other = &seeds[chance.below(seeds.len())];
                let from = chance.below(other.len());
                data.truncate(at);
                data.extend_from_slice(&other[from..]);
            }
        }
    }
    data
}

/// Values that have been trouble somewhere.
fn odd(chance: &mut Chance) -> Value {
    match chance.below(18) {
        0 => Value::Null,
        1 => json!(false),
        2 => json!(true),
        3 => json!([]),
        4 => json!({}),
        5 => json!(0),
        6 => json!(-1),
        7 => json!(1u64 << chance.below(64)),
        8 => json!(u64::MAX),
        9 => json!(i64::MIN),
        10 => json!(0.5),
        11 => json!(""),
        12 => json!("\0"),
        13 => json!("/"),
        14 => json!(".."),
        15 => json!("../../x"),
        16 => json!("é\n=:,-"),
        _ => json!("x".repeat(5000)),
    }
}

/// The values within a value, itself first.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    let escaped = |name: &str| name.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, v)| places(v, &format!("{at}/{}", escaped(name)), found));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(n, v)| places(v, &format!("{at}/{n}"), found))
        }
        _ => {}
    }
}

/// A document with other values at some of its places: odd ones, its neighbours', or more and fewer of them.
fn bend_document(seeds: &[Value], chance: &mut Chance) -> Vec<u8> {
    let mut document = seeds[chance.below(seeds.len())].clone();
    for _ in 0..1 + chance.below(4) {
        let (mut all, mut theirs) = (Vec::new(), Vec::new());
        places(&document, "", &mut all);
        let other = &seeds[chance.below(seeds.len())];
        places(other, "", &mut theirs);
        let spliced = other.pointer(&theirs[chance.below(theirs.len())]).cloned().unwrap_or_default();
        let Some(value) = document.pointer_mut(&all[chance.below(all.len())]) else { continue };
        match (chance.below(4), &mut *value) {
            (0, Value::Array(items)) => items.extend(items.clone()),
            (1, Value::Array(items)) => items.push(spliced),
            (1, Value::Object(members)) => drop(members.insert("x".into(), spliced)),
            (2, _) => *value = spliced,
            (3, Value::Object(members)) => {
                let name = members.keys().nth(chance.below(members.len())).cloned();
                name.iter().for_each(|name| drop(members.remove(name)));
            }
            _ => *value = odd(chance),
        }
    }
    document.to_string().into_bytes()
}

#[test]
fn bent_input_is_answered_and_breaks_no_promise() {
    let rounds = std::env::var("CORACLE_FUZZ_ROUNDS").ok().and_then(|r| r.parse().ok()).unwrap_or(5_000);
    for (name, target, seeds) in TARGETS {
        let seeds = seeds();
        let documents: Vec<Value> =
            seeds.iter().filter_map(|seed| serde_json::from_slice(seed).ok()).collect();
        let mut chance = Chance(name.len() as u64);
        seeds.iter().for_each(|seed| target(seed));
        for round in 0..rounds {
            match round % 2 == 0 && !documents.is_empty() {
                true => target(&bend_document(&documents, &mut chance)),
                false => target(&bend(&seeds, &mut chance)),
            }
        }
    }
}
