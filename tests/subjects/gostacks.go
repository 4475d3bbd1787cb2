// Goroutines whose stacks have what a traceback hides or cuts: the compiler's wrappers, panics, the runtime's own, depth. They stand still; "d" gives the program's
// own dump as debug=2, "1" as debug=1, on standard output; "p FILE" its profile as protobuf, in a file; then a line "END".
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
	"time"
)

var silent = make(chan int)

type waiter interface{ wait(silent chan int) }

type value struct{ word [3]int }

func (v value) wait(silent chan int) { <-silent }

// outer has the method of what is in it, through a function that the compiler writes.
type outer struct {
	name string
	value
}

//go:noinline
func through(w waiter) { w.wait(silent) }

//go:noinline
func calls(function func(chan int)) { function(silent) }

func receives(silent chan int) { <-silent }

//go:noinline
func deep(depth int) {
	if depth == 0 {
		<-silent
		return
	}
	deep(depth - 1)
	runtime.KeepAlive(depth)
}

func inlined(silent chan int) { receives(silent) }

// What is inlined into it calls another place than it does itself.
//
//go:noinline
func around(before, after int) int {
	sum := before * after
	if before < after {
		inlined(silent)
	}
	return sum + before
}

func panics() {
	defer func() {
		recover()
		<-silent
	}()
	panic("it is caught")
}

func faults() {
	defer func() {
		<-silent
	}()
	var none *value
	none.word[1] = 2
}

// A method of a value, called through a pointer that is nil: what the compiler wrote panics itself, and is shown.
func wrapped() {
	defer func() {
		<-silent
	}()
	var none *value
	through(none)
}

func finalized() {
	object := &struct{ words [100]int }{}
	runtime.SetFinalizer(object, func(any) { <-silent })
	object = nil
	for at := 0; at < 3; at++ {
		runtime.GC()
		time.Sleep(20 * time.Millisecond)
	}
}

//go:noinline
func typed[T any](silent chan T) { <-silent }

func main() {
	var w waiter = value{}
	go w.wait(silent)
	go through(w)
	go through(&value{})
	go through(&outer{})
	go calls(value{}.wait)
	go calls((&outer{}).wait)
	go value.wait(value{}, silent)
	go receives(silent)
	go func() {
		defer receives(silent)
	}()
	go func() {
		defer w.wait(silent)
	}()
	go typed(silent)
	go around(1, 2)
	go panics()
	go faults()
	go wrapped()
	for _, depth := range []int{20, 97, 98, 99, 100, 150, 2_000, 30_000} {
		go deep(depth)
	}
	time.AfterFunc(time.Millisecond, func() { <-silent })
	finalized()
	fmt.Println("ready")
	input := bufio.NewReader(os.Stdin)
	for {
		line, err := input.ReadString('\n')
		if err != nil {
			return
		}
		switch {
		case line == "d\n":
			pprof.Lookup("goroutine").WriteTo(os.Stdout, 2)
		case strings.HasPrefix(line, "p "):
			file, err := os.Create(strings.TrimSpace(line[2:]))
			if err != nil {
				return
			}
			pprof.Lookup("goroutine").WriteTo(file, 0)
			file.Close()
		default:
			pprof.Lookup("goroutine").WriteTo(os.Stdout, 1)
		}
		fmt.Println("END")
	}
}
