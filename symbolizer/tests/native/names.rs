//! Every kind of program and address gets its names.

use super::*;

#[test]
fn inlined_calls_come_innermost_first_each_with_its_own_line() {
    let Some(program) = compile("gcc", C_SOURCE, &["-g"]) else { return };
    check_inlined(&inlined(&program, &mut resolver()));
}

#[test]
fn compressed_debug_information_is_used() {
    let Some(program) = compile("gcc", C_SOURCE, &["-g", "-gz=zlib"]) else { return };
    check_inlined(&inlined(&program, &mut resolver()));
    let config = Config { inflated_bytes_max: 1, ..Config::default() };
    let mut resolver = Resolver::new(&config);
    let offset = program.offsets(" outer").start;
    let resolved = resolve_in(&mut resolver, &program.executable(), offset).unwrap();
    assert_eq!(*resolved, [Frame::named("outer")]);
    assert_eq!(resolver.stats().debug_info_skipped, 1);
}

#[test]
fn a_compressed_section_that_lies_about_its_size_costs_only_the_debug_information() {
    let Some(program) = compile("gcc", C_SOURCE, &["-g", "-gz=zlib"]) else { return };
    let mut bytes = fs::read(&program.path).unwrap();
    // Elf64_Chdr: ELFCOMPRESS_ZLIB, reserved, size, alignment, then the zlib stream's own first byte.
    let headers: Vec<usize> = bytes
        .windows(25)
        .enumerate()
        .filter(|(_, window)| window.starts_with(&[1, 0, 0, 0, 0, 0, 0, 0]) && window[24] == 0x78)
        .map(|(at, _)| at)
        .collect();
    assert!(!headers.is_empty());
    for claimed in [1u64 << 20, 1 << 62, 0] {
        for at in &headers {
            bytes[at + 8..at + 16].copy_from_slice(&claimed.to_le_bytes());
        }
        let path = program.directory.path().join("lies");
        fs::write(&path, &bytes).unwrap();
        let resolved = resolve(&executable(File::open(path).unwrap()), program.offsets(" outer").start);
        assert_eq!(*resolved.unwrap(), [Frame::named("outer")], "claimed {claimed}");
    }
}

#[test]
fn limits_cost_the_lines_first_and_then_the_names() {
    let Some(program) = compile("gcc", C_SOURCE, &["-g"]) else { return };
    let offset = program.offsets(" outer").start;
    let no_debug = Config { debug_bytes_max: 1, ..Config::default() };
    let resolved = resolve_in(&mut Resolver::new(&no_debug), &program.executable(), offset);
    assert_eq!(*resolved.unwrap(), [Frame::named("outer")]);
    let no_symbols = Config { symbol_bytes_max: 1, ..Config::default() };
    let mut resolver = Resolver::new(&no_symbols);
    assert_eq!(resolve_in(&mut resolver, &program.executable(), offset), Err(Reason::TooLarge));
    assert_eq!(resolver.stats().unresolved[Reason::TooLarge.index()], 1);
    let mut known = Arc::try_unwrap(program.executable()).unwrap();
    known.symbol_bytes = u64::MAX;
    assert_eq!(resolve(&Arc::new(known), offset), Err(Reason::TooLarge));
}

#[test]
fn a_stripped_program_keeps_what_it_exports() {
    let Some(program) = compile("gcc", C_SOURCE, &["-rdynamic"]) else { return };
    let Some(mut strip) = tool("strip") else { return };
    run(strip.arg(&program.path));
    assert_eq!(names(&resolve(&program.executable(), program.offsets(" outer").start + 3)), ["outer"]);
    let Some(silent) = compile("gcc", C_SOURCE, &["-s"]) else { return };
    let start = program.offsets(" outer").start;
    assert_eq!(resolve(&silent.executable(), start), Err(Reason::NoSymbol));
}

#[test]
fn symbols_packed_into_gnu_debugdata_are_found() {
    let Some(program) = compile("gcc", C_SOURCE, &[]) else { return };
    let (Some(mut objcopy), Some(mut xz), Some(mut strip)) = (tool("objcopy"), tool("xz"), tool("strip"))
    else {
        return;
    };
    let mini = program.directory.path().join("mini");
    run(objcopy.arg("--only-keep-debug").args([&program.path, &mini]));
    let unpacked_bytes = fs::metadata(&mini).unwrap().len();
    run(xz.arg(&mini));
    run(strip.arg(&program.path));
    let section = format!(".gnu_debugdata={}", mini.with_extension("xz").display());
    run(Command::new("objcopy").args(["--add-section", &section]).arg(&program.path));
    let offset = program.offsets(" outer").start;
    assert_eq!(names(&resolve(&program.executable(), offset)), ["outer"]);
    let config = Config { minidebug_bytes_max: unpacked_bytes - 1, ..Config::default() };
    let limited = resolve_in(&mut Resolver::new(&config), &program.executable(), offset);
    assert_eq!(limited, Err(Reason::TooLarge), "unpacked size counts");
    // Two files fit only where each takes less than what it unpacks to.
    for (open_bytes_max, released) in [(2 * unpacked_bytes - 1, 1), (4 * unpacked_bytes, 0)] {
        let config = Config { minidebug_bytes_max: unpacked_bytes, open_bytes_max, ..Config::default() };
        let mut resolver = Resolver::new(&config);
        for _ in 0..2 {
            assert_eq!(names(&resolve_in(&mut resolver, &program.executable(), offset)), ["outer"]);
        }
        assert_eq!(resolver.stats().elf_released, released, "all that is unpacked is memory");
    }
}

#[test]
fn a_deleted_program_still_has_names() {
    let Some(program) = compile("gcc", C_SOURCE, &["-g"]) else { return };
    let executable = program.executable();
    let offset = program.offsets(" main").start;
    drop(fs::remove_file(&program.path));
    assert!(!program.path.exists());
    assert_eq!(names(&resolve(&executable, offset)), ["main"]);
}

#[test]
fn cpp_names_are_demangled_with_and_without_debug_information() {
    for flags in [&["-g"][..], &[]] {
        let Some(program) = compile("g++", CPP_SOURCE, flags) else { return };
        let offset = program.offsets("5totalEli").start;
        let resolved = resolve(&program.executable(), offset);
        let frames = resolved.as_ref().unwrap();
        assert_eq!(&*frames.last().unwrap().name, "shop::Basket<long>::total(long, int)");
        assert_eq!(frames[0].file.is_some(), !flags.is_empty());
        let resolved = resolve(&program.executable(), program.offsets("6helperi").start);
        assert_eq!(names(&resolved), ["helper(int)"], "its debug information holds only `helper`");
    }
}

#[test]
fn a_debug_link_is_never_followed() {
    let Some(program) = compile("gcc", C_SOURCE, &["-g"]) else { return };
    let Some(mut objcopy) = tool("objcopy") else { return };
    let link = program.directory.path().join("program.debug");
    run(objcopy.arg("--only-keep-debug").args([&program.path, &link]));
    run(Command::new("objcopy").arg(format!("--add-gnu-debuglink={}", link.display())).arg(&program.path));
    fs::remove_file(&link).unwrap();
    let fifo = CString::new(link.to_str().unwrap()).unwrap();
    // SAFETY: a NUL-terminated path.
    assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
    // On its own thread: opening the fifo would hang for good.
    let symbolizer = Symbolizer::spawn(Config::default()).unwrap();
    let file_offset = program.offsets(" outer").start;
    symbolizer.submit(1, vec![Query::User { executable: program.executable(), file_offset }]).unwrap();
    let answers = symbolizer.completed(Duration::from_secs(30));
    if answers.is_empty() {
        // Dropping it would wait for the fifo too.
        std::mem::forget(symbolizer);
        panic!("the debug link was followed");
    }
    assert_eq!(**answers[0].1[0].as_ref().unwrap(), [Frame::named("outer")]);
}

/// Where an address of this process comes from: the mapped file and the offset in it.
pub(crate) fn own_mapping(address: u64) -> (File, u64) {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    for line in maps.lines() {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (start, end) = fields[0].split_once('-').unwrap();
        let hex = |digits| u64::from_str_radix(digits, 16).unwrap();
        if (hex(start)..hex(end)).contains(&address) {
            return (File::open(fields[5]).unwrap(), address - hex(start) + hex(fields[2]));
        }
    }
    panic!("{address:#x} is not mapped");
}

#[inline(never)]
pub(crate) fn known_function(n: u64) -> u64 {
    std::hint::black_box(n) + u64::from(line!())
}

#[test]
fn this_processs_own_functions_are_found_through_its_mappings() {
    let address = known_function as fn(u64) -> u64 as usize as u64;
    let (file, offset) = own_mapping(address);
    let resolved = resolve(&executable(file), offset);
    let frame = resolved.as_ref().unwrap().last().unwrap();
    assert_eq!(&*frame.name, "native::names::known_function", "no hash, no mangling");
    let (file, line) = place(frame);
    assert_eq!(file, "names.rs");
    let known = known_function(0) as u32;
    assert!((known - 2..=known).contains(&line), "line {line}");

    let (file, offset) = own_mapping(libc::getenv as *const () as u64);
    let resolved = resolve(&executable(file), offset);
    assert!(names(&resolved)[0].contains("getenv"), "{resolved:?}");
}

#[test]
fn the_vdso_has_names() {
    // SAFETY: NUL-terminated names; the handle is of an object that is never unloaded.
    let function = unsafe {
        let handle = libc::dlopen(c"linux-vdso.so.1".as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD);
        if handle.is_null() {
            return println!("skipped: the C library does not show the vdso");
        }
        libc::dlsym(handle, c"__vdso_clock_gettime".as_ptr())
    } as u64;
    if function == 0 {
        return println!("skipped: no __vdso_clock_gettime on this machine");
    }
    // SAFETY: takes no pointer.
    let start = unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) };
    let executable = executable(vdso().unwrap());
    let resolved = resolve(&executable, function - start);
    assert!(names(&resolved)[0].ends_with("clock_gettime"), "{resolved:?}");
}

#[test]
fn one_call_answers_every_kind_of_query_in_its_order() {
    let Some(program) = compile("gcc", C_SOURCE, &[]) else { return };
    let kallsyms = fs::read_to_string("/proc/kallsyms").unwrap();
    let schedule = kallsyms.lines().find(|line| line.ends_with(" T schedule")).unwrap();
    let address = u64::from_str_radix(schedule.split(' ').next().unwrap(), 16).unwrap();
    let executable = program.executable();
    let user =
        |name| Query::User { executable: Arc::clone(&executable), file_offset: program.offsets(name).start };
    let queries = [
        user(" main"),
        Query::Kernel { address },
        Query::Jit { pid: u32::MAX, address: 1 },
        user(" outer"),
        Query::User { executable: Arc::clone(&executable), file_offset: u64::MAX },
    ];
    let mut resolver = resolver();
    let resolved = resolver.resolve(&queries);
    assert_eq!(names(&resolved[0]), ["main"]);
    if address == 0 {
        assert_eq!(resolved[1], Err(Reason::KallsymsHidden));
    } else {
        assert_eq!(names(&resolved[1]), ["schedule"]);
    }
    assert_eq!(resolved[2], Err(Reason::ProcessGone));
    assert_eq!(names(&resolved[3]), ["outer"]);
    assert_eq!(resolved[4], Err(Reason::NoSymbol));
    let stats = resolver.stats();
    assert_eq!(stats.resolved + stats.unresolved.iter().sum::<u64>(), 5);
    assert_eq!(stats.elf_opened, 1, "one opening for all of a file's addresses");
}

#[test]
fn a_jit_compiled_function_is_found_in_a_live_process() {
    let pid = std::process::id();
    let path = format!("/tmp/perf-{pid}.map");
    fs::write(&path, "7f0000001000 100 LazyCompile:*render app.js:10\n").unwrap();
    let resolved = resolver().resolve(&[Query::Jit { pid, address: 0x7f00_0000_1010 }]).remove(0);
    fs::remove_file(&path).unwrap();
    assert_eq!(names(&resolved), ["LazyCompile:*render app.js:10"]);
}

#[test]
fn rust_programs_have_their_names_and_inlined_lines() {
    let Some(mut rustc) = tool("rustc") else { return };
    let directory = tempfile::tempdir().unwrap();
    let (source, path) = (directory.path().join("hello.rs"), directory.path().join("hello"));
    fs::write(
        &source,
        "mod shop {\n    #[inline(always)]\n    pub fn inner(n: u64) -> u64 {\n        std::hint::black_box(n) + 1\n    }\n    #[inline(never)]\n    pub fn outer(n: u64) -> u64 {\n        inner(n) * 3\n    }\n}\nfn main() {\n    std::process::exit((shop::outer(std::process::id() as u64) & 1) as i32);\n}\n",
    )
    .unwrap();
    run(rustc.args(["-g", "-O", "-o"]).args([&path, &source]));
    let Some(mut nm) = tool("nm") else { return };
    let output = nm.args(["-S", "--defined-only"]).arg(&path).output().unwrap();
    let symbols = String::from_utf8(output.stdout).unwrap();
    let line = symbols.lines().find(|line| line.contains("4shop5outer")).expect("shop::outer");
    let number = |n| u64::from_str_radix(line.split(' ').nth(n).unwrap(), 16).unwrap();
    let executable = executable(File::open(&path).unwrap());
    // Linked as position independent: the code's segment is mapped where `readelf` says.
    let delta = text_delta(&path);
    let queries: Vec<Query> = (number(0)..number(0) + number(1))
        .map(|address| Query::User { executable: Arc::clone(&executable), file_offset: address - delta })
        .collect();
    let answers = resolver().resolve(&queries);
    let inlined = answers.iter().flatten().find(|frames| frames.len() > 1).expect("an inlined call");
    let found: Vec<_> = inlined.iter().rev().take(2).map(|frame| (&*frame.name, place(frame))).collect();
    assert_eq!(found, [("hello::shop::outer", ("hello.rs", 8)), ("hello::shop::inner", ("hello.rs", 4))]);
}
