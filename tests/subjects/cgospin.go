// Go that calls C, and C that calls Go: each burns CPU time on a stack of its own. Says `ready` when it begins.
package main

/*
#include <stdint.h>
extern uint64_t goFromC(uint64_t);
static uint64_t c_inner(uint64_t n) {
    volatile uint64_t value = n;
    for (uint64_t at = 0; at < 200000; at++) value = value * 31 + at;
    return value;
}
static uint64_t c_middle(uint64_t n) { return c_inner(n) + 1; }
static uint64_t c_calls_go(uint64_t n) { return goFromC(n) + 1; }
*/
import "C"

import "fmt"

//export goFromC
func goFromC(n C.uint64_t) C.uint64_t {
	value := uint64(n)
	for at := uint64(0); at < 200000; at++ {
		value = value*31 + at
	}
	return C.uint64_t(value)
}

//go:noinline
func goCallsC(n uint64) uint64 { return uint64(C.c_middle(C.uint64_t(n))) + 1 }

//go:noinline
func goCallsCCallsGo(n uint64) uint64 { return uint64(C.c_calls_go(C.uint64_t(n))) + 1 }

func main() {
	fmt.Println("ready")
	sum := uint64(0)
	for {
		sum += goCallsC(sum)
		sum += goCallsCCallsGo(sum)
	}
}
