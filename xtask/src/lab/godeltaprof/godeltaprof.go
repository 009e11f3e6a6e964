// Package godeltaprof stands in for the module of that name, whose access to the
// runtime's internals today's linker refuses. A server under test profiles itself
// with nothing: every profile is empty.
package godeltaprof

import "io"

// HeapProfiler writes empty heap profiles.
type HeapProfiler struct{}

// NewHeapProfiler returns a profiler without state.
func NewHeapProfiler() *HeapProfiler { return &HeapProfiler{} }

// Profile writes nothing.
func (*HeapProfiler) Profile(io.Writer) error { return nil }

// BlockProfiler writes empty block and mutex profiles.
type BlockProfiler struct{}

// NewBlockProfiler returns a profiler without state.
func NewBlockProfiler() *BlockProfiler { return &BlockProfiler{} }

// NewMutexProfiler returns a profiler without state.
func NewMutexProfiler() *BlockProfiler { return &BlockProfiler{} }

// Profile writes nothing.
func (*BlockProfiler) Profile(io.Writer) error { return nil }
