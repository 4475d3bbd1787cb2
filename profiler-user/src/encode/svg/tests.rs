//! What a reader of the picture may count on.

use super::{encode, utc};
use crate::encode::sample_profile::sample_profile;
use std::time::{Duration, UNIX_EPOCH};

#[test]
fn every_frame_has_a_title_with_its_numbers() {
    let svg = encode(&sample_profile());
    assert!(svg.contains("<title>inner&lt;T&gt;\n120 ms of cpu, 12 samples, 38.71 %</title>"), "{svg}");
    assert!(svg.contains("<title>[lost: ring full]\n30 ms of cpu, 3 samples, 9.68 %</title>"));
    assert!(svg.contains("31 samples  \u{b7}  310 ms of cpu  \u{b7}  9.68 % lost"));
    assert_eq!(svg.matches("<title>").count(), 13);
    assert!(svg.contains("2023-11-14 22:13:20 UTC"));
}

#[test]
fn a_hostile_name_stays_text() {
    let mut profile = sample_profile();
    for name in ["</title><script>alert(1)</script>", "]]>", "\u{0}\u{b}\u{ffff}\u{202e}", "\"'&amp;"] {
        profile.functions[0].name = name.into();
        profile.processes[0].comm = name.into();
        profile.comments = vec![name.to_owned()];
        let svg = encode(&profile);
        assert_eq!((svg.matches("<script>").count(), svg.matches("</script>").count()), (1, 1));
        assert_eq!(svg.matches("]]>").count(), 2);
        assert!(!svg.chars().any(|c| (c.is_control() && c != '\n') || matches!(c, '\u{ffff}' | '\u{202e}')));
    }
}

#[test]
fn the_styles_and_the_script_do_not_end_their_own_sections() {
    assert!(!include_str!("style.css").contains("]]>") && !include_str!("script.js").contains("]]>"));
}

#[test]
fn an_empty_profile_is_a_picture_that_says_so() {
    let mut profile = sample_profile();
    profile.samples.clear();
    profile.losses = Default::default();
    let svg = encode(&profile);
    assert!(svg.contains("no samples") && svg.ends_with("</svg>\n"));
    assert_eq!(svg.matches("<title>").count(), 0);
}

#[test]
fn the_script_lays_out_by_exact_parts_of_the_whole() {
    let svg = encode(&sample_profile());
    assert!(svg.contains("<g data-x=\"0\" data-w=\"100000000\"><title>all\n"));
    assert!(svg.contains("<g class=\"lost\" data-x=\"90322581\" data-w=\"9677419\"><title>[lost: ring full]\n"));
}

#[test]
fn it_is_well_formed() {
    let (input, output) = (std::process::Stdio::piped(), std::process::Stdio::null());
    let checked = std::process::Command::new("rsvg-convert").stdin(input).stdout(output).spawn();
    let Ok(mut checking) = checked else {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "CI has to give it");
        eprintln!("SKIP it_is_well_formed: rsvg-convert is not installed");
        return;
    };
    let mut profile = sample_profile();
    profile.functions[0].name = "<&\"'>\u{0}\u{fffe}]]>".into();
    std::io::Write::write_all(&mut checking.stdin.take().unwrap(), encode(&profile).as_bytes()).unwrap();
    assert!(checking.wait().unwrap().success());
}

#[test]
fn days_become_dates() {
    for (seconds, text) in [
        (0, "1970-01-01 00:00:00 UTC"),
        (951_782_399, "2000-02-28 23:59:59 UTC"),
        (951_782_400, "2000-02-29 00:00:00 UTC"),
        (1_709_251_200, "2024-03-01 00:00:00 UTC"),
        (4_107_542_400, "2100-03-01 00:00:00 UTC"),
    ] {
        assert_eq!(utc(UNIX_EPOCH + Duration::from_secs(seconds)), text);
    }
}
