//! Address to name: native executables, the kernel, the vdso, JIT maps.
