//! Behaviour of the merger.

use model::pprof;
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::tests::{ProfileBuilder, folded, total};

fn merge_all(profiles: &[pprof::Profile], limits: Limits) -> (pprof::Profile, Merger) {
    let fill = || {
        let mut merger = Merger::new(limits);
        for profile in profiles {
            merger.add(profile, &[], Frames::All);
        }
        merger
    };
    (fill().finish(), fill())
}

/// A copy with sparse ids in reversed order and strings in another order.
fn renumbered(mut profile: pprof::Profile) -> pprof::Profile {
    let id = |id: &mut u64| *id = if *id == 0 { 0 } else { 1_000_000 - *id * 17 };
    for mapping in &mut profile.mapping {
        id(&mut mapping.id);
    }
    for function in &mut profile.function {
        id(&mut function.id);
    }
    for location in &mut profile.location {
        id(&mut location.id);
        id(&mut location.mapping_id);
        location.line.iter_mut().for_each(|line| id(&mut line.function_id));
    }
    for sample in &mut profile.sample {
        sample.location_id.iter_mut().for_each(id);
    }
    profile.location.reverse();
    profile.function.reverse();
    profile.mapping.reverse();
    let last = profile.string_table.len() as i64;
    let string = |index: &mut i64| *index = if *index == 0 { 0 } else { last - *index };
    profile.string_table[1..].reverse();
    for kind in &mut profile.sample_type {
        string(&mut kind.r#type);
        string(&mut kind.unit);
    }
    for mapping in &mut profile.mapping {
        string(&mut mapping.filename);
        string(&mut mapping.build_id);
    }
    for function in &mut profile.function {
        string(&mut function.name);
        string(&mut function.filename);
    }
    for label in profile.sample.iter_mut().flat_map(|sample| &mut sample.label) {
        string(&mut label.key);
    }
    profile
}

fn example() -> pprof::Profile {
    ProfileBuilder::new()
        .time(1_000, 500)
        .sample(&["k:read", "work", "main"], 1, 5)
        .sample(&["work", "main"], 1, 7)
        .sample(&["work", "main"], 2, 11)
        .build()
}

#[test]
fn equal_content_is_merged_whatever_its_ids() {
    let (merged, _) = merge_all(&[example(), renumbered(example())], Limits::default());
    let doubled: Vec<_> = folded(&example()).into_iter().map(|(stack, value)| (stack, 2 * value)).collect();
    assert!(folded(&merged).into_iter().eq(doubled));
    assert_eq!((merged.sample.len(), merged.location.len(), merged.function.len()), (3, 3, 3));
    assert_eq!(merged.mapping.len(), 2);
    assert_eq!(merged.string_table.iter().filter(|string| *string == "work").count(), 1);
    assert_eq!((merged.time_nanos, merged.duration_nanos), (1_000_000_000, 500_000_000));
    assert_eq!(merged.period, 10_000_000);
    assert!(merged.sample.is_sorted_by_key(|sample| -sample.value[0]));
}

#[test]
fn merging_a_merged_profile_changes_nothing() {
    let (once, _) = merge_all(&[example()], Limits::default());
    let (twice, _) = merge_all(std::slice::from_ref(&once), Limits::default());
    assert_eq!(once, twice);
}

#[test]
fn one_file_mapped_at_two_addresses_is_one_mapping() {
    let at = |memory_start: u64| {
        let mut profile = ProfileBuilder::new().sample(&["f"], 1, 1).build();
        profile.mapping[0].memory_start = memory_start;
        profile.mapping[0].memory_limit = memory_start + 0x5000;
        profile.mapping[0].file_offset = 0x1000;
        profile.location[0].address = memory_start + 0x234;
        profile
    };
    let (merged, _) = merge_all(&[at(0x7f00_0000_0000), at(0x5500_0000_0000)], Limits::default());
    assert_eq!((merged.mapping.len(), merged.location.len(), merged.sample.len()), (1, 1, 1));
    assert_eq!(merged.location[0].address, 0x1234);
    assert_eq!(merged.mapping[0].memory_limit, 0x6000);
}

#[test]
fn a_kernel_address_stays_as_it_is() {
    let mut profile = ProfileBuilder::new().sample(&["k:f"], 1, 1).build();
    profile.mapping[1].memory_start = 0xffff_ffff_8000_0000;
    profile.location[0].address = 0xffff_ffff_8012_3456;
    let (merged, _) = merge_all(&[profile], Limits::default());
    assert_eq!(merged.location[0].address, 0xffff_ffff_8012_3456);
}

#[test]
fn inlined_functions_keep_their_order_within_a_location() {
    let mut profile = ProfileBuilder::new().sample(&["inner"], 1, 1).sample(&["outer"], 1, 1).build();
    let outer = profile.location[1].line[0];
    profile.location[0].line.push(outer);
    profile.sample.truncate(1);
    let (merged, _) = merge_all(&[profile], Limits::default());
    assert!(folded(&merged).into_keys().eq(["pid=1;outer;inner".to_owned()]));
}

#[test]
fn extra_labels_replace_the_samples_own() {
    let mut profile = example();
    let key = profile.string_table.len() as i64;
    profile.string_table.extend(["service_name".to_owned(), "forged".to_owned()]);
    profile.sample[0].label.push(pprof::Label { key, str: key + 1, ..Default::default() });
    let mut merger = Merger::default();
    merger.add(&profile, &[("service_name", "true")], Frames::All);
    for stack in folded(&merger.finish()).into_keys() {
        assert!(stack.contains("service_name=true") && !stack.contains("forged"), "{stack}");
    }
}

#[test]
fn stacks_over_a_limit_become_one_and_the_total_stays() {
    let mut builder = ProfileBuilder::new();
    for at in 0..1000 {
        builder = builder.sample(&[&format!("function_{at}"), "main"], 1, 1);
    }
    let profile = builder.build();
    let unlimited = Limits::default();
    for limits in [
        Limits { stacks_max: 10, ..unlimited },
        Limits { frames_max: 100, ..unlimited },
        Limits { string_bytes_max: 2000, ..unlimited },
        Limits { stacks_max: 0, ..unlimited },
    ] {
        let (merged, merger) = merge_all(&[profile.clone(), profile.clone()], limits);
        assert!(merger.truncated(), "{limits:?}");
        let stacks = folded(&merged);
        assert_eq!(total(&merged), 2000, "{limits:?}");
        let rest = stacks[TRUNCATED];
        // What was seen first is kept, in both profiles.
        assert_eq!(rest, 2000 - 2 * (stacks.len() as i64 - 1), "{limits:?}");
        assert!(stacks.len() <= 101, "{limits:?}");
    }
    assert!(!merge_all(&[profile], unlimited).1.truncated());
}

#[test]
fn samples_that_make_no_sense_are_skipped_and_counted() {
    type Spoil = fn(&mut pprof::Profile);
    let spoils: [Spoil; 11] = [
        |profile| profile.sample[0].location_id[0] = 0,
        |profile| profile.sample[0].location_id[0] = u64::MAX,
        |profile| profile.location[0].line[0].function_id = 99,
        |profile| profile.location[0].mapping_id = 99,
        |profile| profile.function[0].name = 99,
        |profile| profile.function[0].filename = i64::MIN,
        |profile| profile.mapping[1].build_id = 99,
        |profile| profile.sample[0].value[0] = -1,
        |profile| profile.sample[0].value.clear(),
        |profile| profile.sample[0].label[0].key = -1,
        |profile| profile.sample[0].label[0].str = 99,
    ];
    for (at, spoil) in spoils.iter().enumerate() {
        // The first sample alone has the first location, function and the kernel's mapping.
        let mut profile = example();
        spoil(&mut profile);
        let (merged, merger) = merge_all(&[profile], Limits::default());
        assert_eq!((merger.skipped_samples(), total(&merged)), (1, 18), "spoil {at}");
        folded(&merged);
    }
    let whole: [Spoil; 3] = [
        |profile| profile.sample_type.clear(),
        |profile| profile.string_table.clear(),
        |profile| profile.sample_type[0].unit = 0,
    ];
    for (at, spoil) in whole.iter().enumerate() {
        let mut profile = example();
        spoil(&mut profile);
        assert_eq!(total_ns(&profile), 0);
        let (merged, merger) = merge_all(&[profile], Limits::default());
        assert_eq!((merger.skipped_samples(), total(&merged)), (3, 0), "spoil {at}");
    }
}

#[test]
fn totals_saturate() {
    let profile = ProfileBuilder::new().sample(&["f"], 1, i64::MAX).sample(&["f"], 1, i64::MAX).build();
    assert_eq!(total_ns(&profile), i64::MAX);
    let (merged, _) = merge_all(&[profile.clone(), profile], Limits::default());
    assert_eq!(total(&merged), i64::MAX);
}

fn any_limits() -> impl Strategy<Value = Limits> {
    (0..40usize, 0..400usize, 0..4000usize).prop_map(|(stacks_max, frames_max, string_bytes_max)| Limits {
        stacks_max,
        frames_max,
        string_bytes_max,
    })
}

prop_compose! {
    fn any_profile()(
        samples in prop::collection::vec(
            (prop::collection::vec((any::<bool>(), 0..12u8), 1..8), 0..4i64, 0..1_000i64), 0..40,
        ),
    ) -> pprof::Profile {
        let mut builder = ProfileBuilder::new();
        for (frames, pid, value) in samples {
            let frames: Vec<String> = frames
                .into_iter()
                .map(|(kernel, name)| format!("{}f{name}", if kernel { "k:" } else { "" }))
                .collect();
            let frames: Vec<&str> = frames.iter().map(String::as_str).collect();
            builder = builder.sample(&frames, pid, value);
        }
        builder.build()
    }
}

proptest! {
    #[test]
    fn merging_conserves_totals(
        profiles in prop::collection::vec(any_profile(), 0..5), limits in any_limits(),
    ) {
        let expected: i64 = profiles.iter().map(total_ns).sum();
        let (limited, merger) = merge_all(&profiles, limits);
        folded(&limited);
        prop_assert_eq!((total(&limited), merger.skipped_samples()), (expected, 0));
        prop_assert!(limited.sample.len() <= limits.stacks_max + 1);

        let (merged, merger) = merge_all(&profiles, Limits::default());
        prop_assert!(!merger.truncated());
        let mut by_stack = std::collections::BTreeMap::new();
        for (stack, value) in profiles.iter().flat_map(folded) {
            *by_stack.entry(stack).or_insert(0) += value;
        }
        prop_assert_eq!(folded(&merged), by_stack);
    }

    #[test]
    fn kernel_and_user_frames_together_are_all_frames(profile in any_profile()) {
        let frames = |keep| {
            let mut merger = Merger::default();
            merger.add(&profile, &[], keep);
            let merged = merger.finish();
            folded(&merged);
            merged.sample.iter().map(|sample| sample.location_id.len() as i64 * sample.value[0]).sum::<i64>()
        };
        prop_assert_eq!(frames(Frames::Kernel) + frames(Frames::User), frames(Frames::All));
    }

    #[test]
    fn a_mutated_profile_is_merged_or_skipped_but_never_panics(
        profile in any_profile(),
        mutations in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        limits in any_limits(),
    ) {
        let mut bytes = profile.encode_to_vec();
        for (index, value) in mutations {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        let Ok(profile) = crate::decode::profile(&bytes, &mut Vec::new()) else { return Ok(()) };
        for keep in [Frames::All, Frames::Kernel, Frames::User] {
            let mut merger = Merger::new(limits);
            let added = merger.add(&profile, &[("service_name", "a")], keep);
            let merged = merger.finish();
            folded(&merged);
            prop_assert!(added.value_ns <= total_ns(&profile));
            let sum = merged.sample.iter().fold(0i64, |sum, sample| sum.saturating_add(sample.value[0]));
            prop_assert_eq!(sum, added.value_ns);
        }
    }
}
