//! What was meant by a word that is not known: the nearest one that is.

/// The nearest of `known`, where it is near enough. Whether letters are small or capital makes no difference.
pub(crate) fn suggest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word: Vec<char> = word.to_lowercase().chars().take(64).collect();
    let far = |name: &&str| distance(&word, &name.to_lowercase().chars().collect::<Vec<_>>());
    let nearest = known.iter().copied().min_by_key(far)?;
    let limit = if word.len() < 3 { 1 } else { 2 };
    (far(&nearest) <= limit.min(nearest.len().saturating_sub(1))).then_some(nearest)
}

/// How many letters differ (Levenshtein), two that changed places counting as one.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut best = (rows[i][j] + usize::from(x != y)).min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_is_understood_and_another_word_is_not() {
        let known = ["ADD", "FROM", "RUN", "WORKDIR"];
        for (word, near) in [
            ("FORM", Some("FROM")),
            ("run ", Some("RUN")),
            ("RUNN", Some("RUN")),
            ("wrkdir", Some("WORKDIR")),
        ] {
            assert_eq!(suggest(word, &known), near, "{word}");
        }
        for word in ["INSTALL", "X", "", "apt-get"] {
            assert_eq!(suggest(word, &known), None, "{word}");
        }
    }
}
