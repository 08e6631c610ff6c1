//! Which field of a JSON text an error is about. serde_json knows line and column; people think in
//! `process.user.uid`. The text is walked only after it was found wrong, so a start pays nothing.

use coracle_sys::Error;

/// One level of the path to where the walk stands.
enum Level {
    Object { key: String, expects_key: bool },
    Array { index: usize },
}

/// serde_json's error as one line that starts with the field's name.
pub(super) fn explain(json: &str, error: &serde_json::Error) -> Error {
    let message = error.to_string();
    let reason = match message.rfind(" at line ") {
        Some(at) => &message[..at],
        None => &message,
    };
    if json.trim().is_empty() {
        return Error::invalid("the file is empty");
    }
    let place = format!("line {} column {}", error.line(), error.column());
    match field(json, offset(json, error.line(), error.column())) {
        path if path.is_empty() => Error::invalid(format!("{reason} ({place})")),
        path => Error::invalid(format!("{path}: {reason} ({place})")),
    }
}

/// Byte offset of a one-based line and column.
fn offset(json: &str, line: usize, column: usize) -> usize {
    let before: usize = json.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    (before + column).min(json.len())
}

/// The path of the innermost field that is open at `end`.
fn field(json: &str, end: usize) -> String {
    let mut levels: Vec<Level> = Vec::new();
    let bytes = &json.as_bytes()[..end];
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'{' => levels.push(Level::Object { key: String::new(), expects_key: true }),
            b'[' => levels.push(Level::Array { index: 0 }),
            // The closing bracket is where serde_json reports a missing field: the struct's own path.
            b'}' | b']' if at + 1 < bytes.len() => drop(levels.pop()),
            b'}' | b']' => clear_key(&mut levels),
            b',' => match levels.last_mut() {
                Some(Level::Object { key, expects_key }) => {
                    key.clear();
                    *expects_key = true;
                }
                Some(Level::Array { index }) => *index += 1,
                None => {}
            },
            b'"' => {
                let start = at + 1;
                at = string_end(bytes, start);
                if let Some(Level::Object { key, expects_key }) = levels.last_mut()
                    && *expects_key
                {
                    *key = String::from_utf8_lossy(&bytes[start..at]).into_owned();
                    *expects_key = false;
                }
            }
            _ => {}
        }
        at += 1;
    }
    let mut path = String::new();
    for level in &levels {
        match level {
            Level::Object { key, .. } if key.is_empty() => {}
            Level::Object { key, .. } => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(&key.replace('\n', " "));
            }
            Level::Array { index } => path.push_str(&format!("[{index}]")),
        }
    }
    path
}

fn clear_key(levels: &mut [Level]) {
    if let Some(Level::Object { key, .. }) = levels.last_mut() {
        key.clear();
    }
}

/// Where the string that began at `at` ends: at its quote, or at the end of what was read.
fn string_end(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at.min(bytes.len())
}
