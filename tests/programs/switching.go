// Goes to the runtime's own stack and back: the callers of what runs there are on the goroutine's stack.
package main

import (
	"os"
	"runtime"
	"strconv"
	"time"
)

//go:noinline
func switching(stats *runtime.MemStats) uint64 {
	runtime.ReadMemStats(stats)
	return stats.Alloc + 1
}

func main() {
	// All samples are of this thread.
	runtime.LockOSThread()
	limitMs := int64(7000)
	if len(os.Args) > 1 {
		limitMs, _ = strconv.ParseInt(os.Args[1], 10, 64)
	}
	var stats runtime.MemStats
	x := uint64(1)
	for begin := time.Now(); time.Since(begin).Milliseconds() < limitMs; {
		x += switching(&stats)
	}
	if x == 0 {
		os.Exit(1)
	}
}
