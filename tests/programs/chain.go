// The chain of chain.h in Go: main, dispatch, workA, workB and workC, spin.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"
)

// See chain.h.
const (
	partSteps   = 200000
	jitterSteps = 1 << 14
)

// From linux/time.h.
const clockThreadCputime = 3

var spentNs [3]uint64

func threadCPUNs() uint64 {
	var now syscall.Timespec
	syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockThreadCputime, uintptr(unsafe.Pointer(&now)), 0)
	return uint64(now.Sec)*1000000000 + uint64(now.Nsec)
}

//go:noinline
func spin(x, parts uint64) uint64 {
	steps := partSteps - (x>>40)%jitterSteps
	for step := uint64(0); step < parts*steps; step++ {
		x = x*31 + 7
	}
	return x
}

//go:noinline
func workA(x uint64) uint64 {
	begin := threadCPUNs()
	x = spin(x, 6)
	spentNs[0] += threadCPUNs() - begin
	return x
}

//go:noinline
func workB(x uint64) uint64 {
	begin := threadCPUNs()
	x = spin(x, 3)
	spentNs[1] += threadCPUNs() - begin
	return x
}

//go:noinline
func workC(x uint64) uint64 {
	begin := threadCPUNs()
	x = spin(x, 1)
	spentNs[2] += threadCPUNs() - begin
	return x
}

//go:noinline
func dispatch(x uint64) uint64 {
	x = workA(x)
	x = workB(x)
	x = workC(x)
	return x + 1
}

func main() {
	// The clock is the thread's.
	runtime.LockOSThread()
	limitMs := uint64(7000)
	if len(os.Args) > 1 {
		limitMs, _ = strconv.ParseUint(os.Args[1], 10, 64)
	}
	x := uint64(1)
	for spentNs[0]+spentNs[1]+spentNs[2] < limitMs*1000000 {
		x = dispatch(x)
	}
	fmt.Printf("cpu_ns work_a=%d work_b=%d work_c=%d\n", spentNs[0], spentNs[1], spentNs[2])
	if x == 0 {
		os.Exit(1)
	}
}
