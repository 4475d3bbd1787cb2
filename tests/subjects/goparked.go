// Goroutines that stand still in known functions, and the program's own dump of them: "d" gives debug=2, "1" debug=1, on standard output; then a line "END".
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"runtime/pprof"
	"sync"
	"syscall"
	"time"
)

var held sync.Mutex
var silent = make(chan int)

//go:noinline
func receives() { <-silent }

func inlined(depth int) {
	if depth == 0 {
		receives()
		return
	}
	deeper(depth - 1)
}

//go:noinline
func deeper(depth int) { inlined(depth) }

//go:noinline
func locks() {
	held.Lock()
	held.Unlock()
}

//go:noinline
func selects(done <-chan int) {
	select {
	case <-silent:
	case <-done:
	}
}

//go:noinline
func reads() {
	var ends [2]int
	if err := syscall.Pipe(ends[:]); err != nil {
		panic(err)
	}
	var one [1]byte
	syscall.Read(ends[0], one[:])
}

type worker struct{ done chan int }

func (w *worker) work() { selects(w.done) }

func generic[T any](of T) T {
	receives()
	return of
}

func starts(count int) {
	for at := 0; at < count; at++ {
		go deeper(at%7 + 1)
	}
	go locks()
	go time.Sleep(time.Hour)
	go reads()
	go (&worker{make(chan int)}).work()
	go generic(1)
	go func() { receives() }()
	go pprof.Do(context.Background(), pprof.Labels("request", "seven"), func(context.Context) { receives() })
	var group sync.WaitGroup
	group.Add(1)
	go group.Wait()
}

func main() {
	held.Lock()
	go starts(20)
	if len(os.Args) > 1 {
		go func() {
			for n := 0; ; n++ {
			}
		}()
	}
	time.Sleep(300 * time.Millisecond)
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
