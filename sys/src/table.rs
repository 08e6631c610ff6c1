//! Tables for people: columns as wide as they need, cut to the terminal. Where the output is no
//! terminal nothing is cut.

use std::os::fd::AsFd;

use crate::print::harmless;
use crate::terminal;

/// Columns between two cells.
const GAP: usize = 3;

/// Print a table whose first row is its head. The widest column gives way where the terminal is too
/// narrow; never below the width of its head.
pub fn print(rows: &[Vec<String>], cut: bool) {
    let size = if cut { terminal::window_size(std::io::stdout().as_fd()).ok() } else { None };
    let width = size.map(|(_, columns)| usize::from(columns)).filter(|columns| *columns > 0);
    crate::print::out(format_args!("{}", render(rows, width)));
}

/// The same as text, with nothing cut.
pub fn text(rows: &[Vec<String>]) -> String {
    render(rows, None)
}

fn render(rows: &[Vec<String>], width: Option<usize>) -> String {
    let clean = |row: &Vec<String>| row.iter().map(|cell| harmless(cell)).collect();
    let rows: &Vec<Vec<String>> = &rows.iter().map(clean).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let len = |s: &String| s.chars().count();
    let mut widths: Vec<usize> =
        (0..columns).map(|c| rows.iter().filter_map(|r| r.get(c)).map(len).max().unwrap_or(0)).collect();
    if let Some(width) = width {
        let head = |c: usize| rows.first().and_then(|r| r.get(c)).map_or(1, len);
        let fits = |widths: &[usize]| widths.iter().sum::<usize>() + GAP * columns.saturating_sub(1) <= width;
        // An id and most names stay whole, unless the terminal is narrow indeed.
        for least in [12, 0] {
            while !fits(&widths) {
                let may = (0..columns).filter(|c| widths[*c] > head(*c).max(least));
                let Some(widest) = may.max_by_key(|c| widths[*c]) else { break };
                widths[widest] -= 1;
            }
        }
    }
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let cut = len(cell) > *width;
            let shown: String = cell.chars().take(if cut { width - 1 } else { *width }).collect();
            let shown = if cut { format!("{shown}…") } else { shown };
            line.push_str(&format!("{shown:<w$}", w = width + GAP));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Bytes as docker shows them: three digits, powers of 1000.
pub fn size(bytes: u64) -> String {
    // Whole numbers: to print others brings 13 kB.
    let exact = u128::from(bytes);
    let mut whole = 1;
    for unit in ["B", "kB", "MB", "GB"] {
        if exact * 10 < whole * 9995 {
            let after = match exact * 1000 {
                _ if whole == 1 => 0,
                n if n >= whole * 99_950 => 0,
                n if n >= whole * 9995 => 1,
                _ => 2,
            };
            return decimal(exact, whole, after) + unit;
        }
        whole *= 1000;
    }
    decimal(exact, whole, 1) + "TB"
}

/// So many of `whole`, with `after` digits after the point.
fn decimal(bytes: u128, whole: u128, after: u32) -> String {
    let scale = 10u128.pow(after);
    let scaled = (bytes * scale + whole / 2) / whole;
    match after {
        0 => scaled.to_string(),
        after => format!("{}.{:0width$}", scaled / scale, scaled % scale, width = after as usize),
    }
}

/// Bytes with so many digits at most, in powers of 1000 (`1.98MB`) or 1024 (`23.54GiB`), as Go's %g has them: no zeros at the
/// end.
pub fn measure(bytes: u64, base: u64, digits: u32) -> String {
    let units = match base {
        1024 => ["B", "KiB", "MiB", "GiB", "TiB", "PiB"],
        _ => ["B", "kB", "MB", "GB", "TB", "PB"],
    };
    let (mut unit, mut whole) = (0, 1);
    while unit + 1 < units.len() && bytes / whole >= base {
        (unit, whole) = (unit + 1, whole * base);
    }
    let before = (bytes / whole).max(1).ilog10() + 1;
    let after = digits.saturating_sub(before);
    let text = decimal(bytes.into(), whole.into(), after);
    let text = if after == 0 { &text } else { text.trim_end_matches('0').trim_end_matches('.') };
    format!("{text}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_widest_column_gives_way_to_a_narrow_terminal() {
        let rows: Vec<Vec<String>> = [["NAME", "CMD"], ["a", "a-very-long-command-line"]]
            .map(|r| r.map(str::to_owned).to_vec())
            .to_vec();
        assert_eq!(render(&rows, None), "NAME   CMD\na      a-very-long-command-line\n");
        assert_eq!(render(&rows, Some(20)), "NAME   CMD\na      a-very-long-…\n");
        let row = ["0123456789ab", "an-image", "a-command", "a while ago", "Up a while", "name"];
        let head = ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "NAMES"];
        let rows = [head, row].map(|r| r.map(str::to_owned).to_vec()).to_vec();
        for (width, longest) in [(200, 72), (72, 72), (60, 60), (57, 57), (20, 57)] {
            let text = render(&rows, Some(width));
            let lengths = text.lines().map(|line| line.chars().count());
            assert!(lengths.max().is_some_and(|n| n <= longest), "{width}: {text}");
            assert!(text.contains("0123456789ab"), "{width}: {text}");
        }
        let hostile = vec![vec!["a\u{1b}[31m\nroot".to_owned(), "b".to_owned()]];
        assert_eq!(render(&hostile, None), "a [31m root   b\n");
    }

    #[test]
    fn measures_are_go_s() {
        for (bytes, base, digits, text) in [
            (0, 1000, 3, "0B"),
            (999, 1000, 3, "999B"),
            (1000, 1000, 3, "1kB"),
            (1_984_172, 1000, 4, "1.984MB"),
            (532_480, 1024, 4, "520KiB"),
            (25_275_000_000, 1024, 4, "23.54GiB"),
            (67_108_864, 1024, 4, "64MiB"),
            (1_050, 1000, 3, "1.05kB"),
        ] {
            assert_eq!(measure(bytes, base, digits), text, "{bytes}");
        }
    }

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1.00kB"),
            (12_345, "12.3kB"),
            (9_994, "9.99kB"),
            (9_995, "10.0kB"),
            (99_949, "99.9kB"),
            (99_950, "100kB"),
            (999_499, "999kB"),
            (999_500, "1.00MB"),
            (999_999, "1.00MB"),
            (999_500_000_000, "1.0TB"),
            (u64::MAX, "18446744.1TB"),
            (7_654_321, "7.65MB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
