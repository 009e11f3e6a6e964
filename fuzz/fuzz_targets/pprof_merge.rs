//! Profiles of any origin, decoded and merged; the result must refer to nothing that it does not have.
#![no_main]

use libfuzzer_sys::fuzz_target;
use model::pprof::Profile;
use prost::Message;
use store::Frames;
use store::merge::{Limits, Merger};

const TIMES: u8 = 2;

fuzz_target!(|data: &[u8]| {
    let Some((choice, bytes)) = data.split_first() else { return };
    let Ok(profile) = Profile::decode(bytes) else { return };
    let limits = match choice & 1 {
        0 => Limits::default(),
        _ => Limits { stacks_max: 3, frames_max: 12, string_bytes_max: 200 },
    };
    let frames = [Frames::All, Frames::Kernel, Frames::User][usize::from(choice >> 1) % 3];
    let mut merger = Merger::new(limits);
    let mut added = 0i128;
    for _ in 0..TIMES {
        added += i128::from(merger.add(&profile, &[("service_name", "fuzz")], frames).value_ns);
    }
    let truncated = merger.truncated();
    let merged = merger.finish();
    check(&merged);
    let merged_ns: i128 = merged.sample.iter().map(|sample| i128::from(sample.value[0])).sum();
    let input_ns: i128 =
        profile.sample.iter().flat_map(|sample| &sample.value).map(|value| i128::from(*value).abs()).sum();
    if input_ns * i128::from(TIMES) < i128::from(i64::MAX) {
        assert_eq!(merged_ns, added, "truncated: {truncated}");
    }
    let mut again = Merger::default();
    let kept = again.add(&merged, &[], Frames::All);
    assert_eq!(kept.skipped_samples, 0);
});

/// Every id and index leads somewhere.
fn check(profile: &Profile) {
    assert_eq!(profile.string_table.first().map(String::as_str), Some(""));
    let string = |index: i64| assert!(usize::try_from(index).is_ok_and(|at| at < profile.string_table.len()));
    let id = |id: u64, count: usize| assert!((1..=count as u64).contains(&id), "{id} of {count}");
    for (at, function) in profile.function.iter().enumerate() {
        assert_eq!(function.id, at as u64 + 1);
        [function.name, function.system_name, function.filename].into_iter().for_each(string);
    }
    for (at, mapping) in profile.mapping.iter().enumerate() {
        assert_eq!(mapping.id, at as u64 + 1);
        [mapping.filename, mapping.build_id].into_iter().for_each(string);
    }
    for (at, location) in profile.location.iter().enumerate() {
        assert_eq!(location.id, at as u64 + 1);
        if location.mapping_id != 0 {
            id(location.mapping_id, profile.mapping.len());
        }
        location.line.iter().for_each(|line| id(line.function_id, profile.function.len()));
    }
    for sample in &profile.sample {
        assert!(sample.value.len() == 1 && sample.value[0] >= 0);
        sample.location_id.iter().for_each(|location| id(*location, profile.location.len()));
        for label in &sample.label {
            [label.key, label.str, label.num_unit].into_iter().for_each(string);
        }
    }
}
