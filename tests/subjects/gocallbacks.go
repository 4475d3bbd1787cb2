// Goroutines that C has called back into Go: they wait there, some called by Go, some by a thread that C made. "d" gives the program's own dump as debug=2, "1" as
// debug=1, on standard output; then a line "END".
package main

/*
#cgo LDFLAGS: -lpthread
#include <pthread.h>
#include <unistd.h>
extern void goWaits(int);
static __attribute__((noinline)) void c_calls(int depth) {
    if (depth > 0) c_calls(depth - 1); else goWaits(depth);
    __asm__ volatile("");
}
static __attribute__((noinline)) void c_sleeps(void) {
    sleep(1000);
    __asm__ volatile("");
}
static void *c_thread(void *of) {
    c_calls(3);
    return of;
}
static void c_starts(void) {
    pthread_t thread;
    pthread_create(&thread, 0, c_thread, 0);
}
extern void goSleeps(void);
static void c_calls_who_sleeps(void) {
    goSleeps();
    __asm__ volatile("");
}
*/
import "C"

import (
	"bufio"
	"fmt"
	"os"
	"runtime/pprof"
	"time"
)

var silent, began = make(chan int), make(chan int, 100)

//export goWaits
func goWaits(C.int) {
	began <- 1
	waits()
}

//go:noinline
func waits() { <-silent }

//export goSleeps
func goSleeps() {
	began <- 1
	C.c_sleeps()
}

//go:noinline
func calls(depth C.int) { C.c_calls(depth) }

//go:noinline
func callsTwice() { C.c_calls_who_sleeps() }

func main() {
	go calls(0)
	go calls(100)
	go callsTwice()
	C.c_starts()
	for at := 0; at < 4; at++ {
		<-began
	}
	time.Sleep(50 * time.Millisecond)
	fmt.Println("ready")
	input := bufio.NewReader(os.Stdin)
	for {
		line, err := input.ReadString('\n')
		if err != nil {
			return
		}
		level := 1
		if line == "d\n" {
			level = 2
		}
		pprof.Lookup("goroutine").WriteTo(os.Stdout, level)
		fmt.Println("END")
	}
}
