//! The functions that are followed, as compilers made them.

use proptest::prelude::*;

use super::*;

const AT: u64 = 0x10_0000;

fn events(code: &[u8]) -> Vec<Event> {
    follow(code, AT)
}

fn last(code: &[u8]) -> Event {
    *events(code).last().unwrap()
}

#[test]
fn a_key_in_a_static_program_is_a_word() {
    // cmpl $0,…(%rip); je; mov 0x1000(%rip),%edi; jmp
    let code = [
        0xf3, 0x0f, 0x1e, 0xfa, 0x83, 0x3d, 0, 0x20, 0, 0, 0, 0x0f, 0x84, 1, 0, 0, 0, 0x8b, 0x3d, 0, 0x10, 0,
        0, 0xe9, 0, 0, 0, 0,
    ];
    assert_eq!(last(&code), Event::Leave { argument: Value::Word { at: AT + 23 + 0x1000, plus: 0 } });
}

#[test]
fn a_key_in_a_library_is_reached_through_the_global_offset_table() {
    // mov 0x1000(%rip),%rax; cmpq $0,0x248(%rax); je; lea 0x250(%rax),%rdi; jmp
    let code = [
        0x48, 0x8b, 0x05, 0, 0x10, 0, 0, 0x48, 0x83, 0xb8, 0x48, 2, 0, 0, 0, 0x74, 0x0f, 0x48, 0x8d, 0xb8,
        0x50, 2, 0, 0, 0xe9, 0, 0, 0, 0,
    ];
    assert_eq!(last(&code), Event::Leave { argument: Value::Word { at: AT + 7 + 0x1000, plus: 0x250 } });
}

#[test]
fn a_value_kept_across_a_call_is_known_and_others_are_not() {
    // push %rbx; mov $0x1234,%ebx; mov $1,%esi; mov %rbx,%rdi; call; mov %rbx,%rdi; pop %rbx; jmp
    let code = [
        0x53, 0xbb, 0x34, 0x12, 0, 0, 0xbe, 1, 0, 0, 0, 0x48, 0x89, 0xdf, 0xe8, 0, 0, 0, 0, 0x48, 0x89, 0xdf,
        0x5b, 0xe9, 0, 0, 0, 0,
    ];
    assert_eq!(last(&code), Event::Leave { argument: Value::Address(0x1234) });
    // The same without the second move.
    let code = [0xbf, 0x34, 0x12, 0, 0, 0xe8, 0, 0, 0, 0, 0xe9, 0, 0, 0, 0];
    assert_eq!(last(&code), Event::Leave { argument: Value::Unknown });
}

#[test]
fn thread_local_words_of_each_model_are_told_apart() {
    // mov %fs:-0x18,%rax; ret
    let local = [0x64, 0x48, 0x8b, 0x04, 0x25, 0xe8, 0xff, 0xff, 0xff, 0xc3];
    assert_eq!(last(&local), Event::Return { result: Value::ThreadWord { offset: -0x18 } });
    // mov 0x1000(%rip),%rax; mov %fs:(%rax),%rax; ret
    let initial = [0x48, 0x8b, 0x05, 0, 0x10, 0, 0, 0x64, 0x48, 0x8b, 0, 0xc3];
    assert_eq!(last(&initial), Event::Return { result: Value::ThreadSlot { at: AT + 7 + 0x1000 } });
    // sub $8,%rsp; data16 lea 0x1000(%rip),%rdi; data16 data16 rex.W call; mov (%rax),%rax; add $8,%rsp; ret
    let general = [
        0x48, 0x83, 0xec, 8, 0x66, 0x48, 0x8d, 0x3d, 0, 0x10, 0, 0, 0x66, 0x66, 0x48, 0xe8, 0, 0, 0, 0, 0x48,
        0x8b, 0, 0x48, 0x83, 0xc4, 8, 0xc3,
    ];
    let pair = AT + 12 + 0x1000;
    assert_eq!(last(&general), Event::Return { result: Value::BlockWord { pair, plus: 0 } });
}

#[test]
fn glibc_keeps_values_in_the_threads_own_block() {
    // cmp $0x1f,%edi; ja; mov %edi,%eax; add $0x31,%rax; shl $4,%rax; add %fs:0x10,%rax; mov 8(%rax),%rdx
    let code = [
        0x83, 0xff, 0x1f, 0x77, 0x3b, 0x89, 0xf8, 0x48, 0x83, 0xc0, 0x31, 0x48, 0xc1, 0xe0, 4, 0x64, 0x48, 3,
        4, 0x25, 0x10, 0, 0, 0, 0x48, 0x8b, 0x50, 8,
    ];
    let chosen = Value::Chosen { table: None, multiplier: 16, add: 792 };
    assert_eq!(last(&code), Event::Choose(chosen));
    // An older one: lea 0x31(%rdi),%eax; shl $4,%rax; mov %fs:0x10,%rdx; add %rdx,%rax; mov 8(%rax),%r8
    let code = [
        0x8d, 0x47, 0x31, 0x48, 0xc1, 0xe0, 4, 0x64, 0x48, 0x8b, 0x14, 0x25, 0x10, 0, 0, 0, 0x48, 0x01, 0xd0,
        0x4c, 0x8b, 0x40, 8,
    ];
    assert_eq!(last(&code), Event::Choose(chosen));
}

#[test]
fn musl_keeps_values_in_a_table() {
    // mov %fs:0,%rax; mov 0x80(%rax),%rax; mov %edi,%edi; mov (%rax,%rdi,8),%rax; ret
    let code = [
        0x64, 0x48, 0x8b, 4, 0x25, 0, 0, 0, 0, 0x48, 0x8b, 0x80, 0x80, 0, 0, 0, 0x89, 0xff, 0x48, 0x8b, 4,
        0xf8, 0xc3,
    ];
    let chosen = Value::Chosen { table: Some(0x80), multiplier: 8, add: 0 };
    assert_eq!(last(&code), Event::Return { result: chosen });
}

#[test]
fn an_unknown_instruction_ends_it() {
    assert!(events(&[0x0f, 0x05, 0xc3]).is_empty());
    assert!(events(&[0x48, 0x8b]).is_empty());
    assert!(events(&[0x66; 64]).is_empty());
}

proptest! {
    #[test]
    fn any_bytes_are_followed_without_a_panic(code in proptest::collection::vec(any::<u8>(), 0..256)) {
        follow(&code, AT);
    }
}
