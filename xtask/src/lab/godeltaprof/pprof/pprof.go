// Package pprof answers requests for delta profiles that this build does not take.
package pprof

import "net/http"

// Heap answers 501.
func Heap(w http.ResponseWriter, r *http.Request) { refuse(w) }

// Block answers 501.
func Block(w http.ResponseWriter, r *http.Request) { refuse(w) }

// Mutex answers 501.
func Mutex(w http.ResponseWriter, r *http.Request) { refuse(w) }

func refuse(w http.ResponseWriter) {
	http.Error(w, "this build takes no delta profiles of itself", http.StatusNotImplemented)
}
