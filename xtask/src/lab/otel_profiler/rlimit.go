// Package rlimit leaves the limit of locked memory as it is: raising it needs CAP_SYS_RESOURCE, and since Linux 5.11
// BPF maps do not count against it.
package rlimit

// MaximizeMemlock changes nothing, and neither does the function it returns.
func MaximizeMemlock() (func(), error) {
	return func() {}, nil
}
