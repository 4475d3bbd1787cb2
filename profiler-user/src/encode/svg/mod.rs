//! A flame graph: one file that needs nothing else, with the root on top. Without its script it is a picture with titles; with it, a click
//! zooms and `/` searches.

mod paint;
mod tree;

use super::lost;
use crate::model::profile::Profile;
use crate::model::text::printable;
use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};
use tree::{Node, Stands};

/// Width of the picture without script, in pixels. `script.js` knows the edge and the gap too.
const WIDTH: f64 = 1200.0;
/// Room at the left and the right.
const EDGE: f64 = 16.0;
/// Between two neighbours.
const GAP: f64 = 0.6;
/// From one row to the next.
const ROW: usize = 19;
/// Where the first row begins.
const TOP: usize = 86;
/// Width of a letter in a frame.
const LETTER: f64 = 6.93;
/// Most letters of a name.
const MAX_NAME: usize = 300;

/// The profile's last column as a picture.
pub(super) fn encode(profile: &Profile) -> String {
    let nodes = tree::drawn(profile);
    let rows = nodes.iter().map(|node| node.depth + 1).max().unwrap_or(2);
    let height = TOP + rows * ROW + 16;
    let title = title(profile);
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}\">\n<desc>"
    );
    for comment in lost::comments(profile) {
        out.push_str(&escaped(&comment));
        out.push('\n');
    }
    let style = include_str!("style.css");
    put(
        &mut out,
        format_args!("</desc>\n<style><![CDATA[\n{style}]]></style>\n<rect id=\"page\" width=\"{WIDTH}\" height=\"{height}\"/>\n"),
    );
    put(&mut out, format_args!("<text id=\"title\" x=\"{EDGE}\" y=\"34\">{title}</text>\n"));
    put(&mut out, format_args!("<text id=\"detail\" x=\"{EDGE}\" y=\"54\">{}</text>\n", subtitle(profile)));
    legend(&nodes, &mut out);
    out.push_str("<g id=\"frames\">\n");
    for node in &nodes {
        frame(profile, node, &nodes[0], &mut out);
    }
    put(&mut out, format_args!("</g>\n<script><![CDATA[\n{}]]></script>\n</svg>\n", include_str!("script.js")));
    out
}

/// Writing to a string does not fail.
fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}

/// A node: a rectangle, a title for the pointer, and its name if there is room for some letters.
fn frame(profile: &Profile, node: &Node<'_>, root: &Node<'_>, out: &mut String) {
    let scale = (WIDTH - 2.0 * EDGE) / root.weight as f64;
    let (x, width) = (EDGE + node.left as f64 * scale, node.weight as f64 * scale);
    let y = TOP + node.depth * ROW;
    let name = shortened(&node.name, MAX_NAME);
    let share = 100.0 * node.weight as f64 / root.weight as f64;
    let class = if node.stands == Stands::Lost { " class=\"lost\"" } else { "" };
    // What the script lays out again, in hundred-millionths of the whole: the rectangle itself is rounded.
    let part = |value: i64| (value as f64 / root.weight as f64 * 1e8).round();
    put(out, format_args!("<g{class} data-x=\"{}\" data-w=\"{}\">", part(node.left), part(node.weight)));
    put(out, format_args!("<title>{}\n{}, {share:.2} %</title>", escaped(&name), amount(profile, node)));
    let drawn = (width - GAP).max(0.1);
    put(out, format_args!("<rect class=\"{}\" x=\"{x:.2}\" y=\"{y}\" width=\"{drawn:.2}\" height=\"18\" rx=\"2\"/>", paint::class(node)));
    let letters = ((width - 6.0) / LETTER) as usize;
    if letters >= 3 {
        put(out, format_args!("<text x=\"{:.2}\" y=\"{}\">{}</text>", x + 4.0, y + 13, escaped(&shortened(&printable(&name), letters))));
    }
    out.push_str("</g>\n");
}

/// What stands above the picture.
fn title(profile: &Profile) -> String {
    let about = match profile.processes.as_slice() {
        [] => "no process".to_owned(),
        [one] => format!("{} (pid {})", shortened(&one.comm, 40), one.pid.0),
        many => format!("{} processes", many.len()),
    };
    let kind = profile.kind.name();
    escaped(&format!("{} flame graph \u{2013} {about}", if kind == "cpu" { "CPU" } else { kind }))
}

/// When, how long, how much, and how much of it was lost.
fn subtitle(profile: &Profile) -> String {
    let events = lost::total(profile, 0);
    if events == 0 {
        return format!("{}  \u{b7}  no samples", utc(profile.start));
    }
    let mut parts = vec![
        utc(profile.start),
        format!("{} recorded", paint::nanoseconds(profile.duration.as_nanos() as f64)),
        format!("{} samples", paint::grouped(events)),
    ];
    if let Some(weight) = weighed(profile, lost::total(profile, profile.kind.default_column())) {
        parts.push(weight);
    }
    let lost: i64 = lost::samples(profile).iter().map(|lost| lost.values[0]).sum();
    if lost > 0 {
        parts.push(format!("{:.2} % lost", 100.0 * lost as f64 / events as f64));
    }
    escaped(&parts.join("  \u{b7}  "))
}

/// A value of the default column with its unit; none if that column counts the samples themselves.
fn weighed(profile: &Profile, weight: i64) -> Option<String> {
    let last = profile.sample_types.get(profile.kind.default_column()).filter(|_| profile.sample_types.len() > 1)?;
    Some(match last.unit {
        "nanoseconds" => format!("{} of {}", paint::nanoseconds(weight as f64), last.name),
        "count" => format!("{} {}", paint::grouped(weight), last.name),
        unit => format!("{} {unit}", paint::grouped(weight)),
    })
}

fn amount(profile: &Profile, node: &Node<'_>) -> String {
    let samples = format!("{} sample{}", paint::grouped(node.events), if node.events == 1 { "" } else { "s" });
    weighed(profile, node.weight).map_or(samples.clone(), |weight| format!("{weight}, {samples}"))
}

/// The hues that occur.
fn legend(nodes: &[Node<'_>], out: &mut String) {
    let mut x = EDGE;
    for (stands, class, label) in [
        (Stands::Process, "s1", "process"),
        (Stands::User, "u0", "user"),
        (Stands::Kernel, "k0", "kernel"),
        (Stands::Unresolved, "n0", "no name"),
        (Stands::Lost, "l0", "lost"),
    ] {
        if nodes.iter().any(|node| node.stands == stands) {
            put(out, format_args!("<rect class=\"{class}\" x=\"{x}\" y=\"64\" width=\"11\" height=\"11\" rx=\"3\"/>"));
            put(out, format_args!("<text x=\"{}\" y=\"74\">{label}</text>\n", x + 16.0));
            x += 34.0 + 7.0 * label.len() as f64;
        }
    }
}

/// The first letters of a text, with dots where letters are missing.
fn shortened(text: &str, letters: usize) -> String {
    match text.char_indices().nth(letters) {
        None => text.to_owned(),
        Some(_) => text.chars().take(letters.saturating_sub(1)).chain(['\u{2026}']).collect(),
    }
}

/// The text as content or attribute of XML, which has no control characters and two that are none.
fn escaped(text: &str) -> String {
    let text = printable(text);
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\u{fffe}' | '\u{ffff}' => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// The time in UTC. Days to a date by the proleptic Gregorian calendar, years beginning in March so that the leap day is the last one.
fn utc(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    let year = era * 400 + year;
    format!("{year}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", second / 3_600, second / 60 % 60, second % 60)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
