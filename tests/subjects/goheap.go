// goheap allocates on 64 call paths and does what it is told, a line of standard input at a time, each answered by a line:
// `allocate N`, `drop` (half of what is kept), `collect`, `pressure` (until the runtime has collected by itself), `storm` and `calm` (collections without end),
// `text FILE` (the heap profile as runtime/pprof writes it, debug=1). Nothing is collected but when it says so. With an argument that is its memory profile rate.
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

var kept [][]byte
var count int
var sink []byte

func keep(block []byte) {
	count++
	if count%3 != 0 {
		kept = append(kept, block)
	}
}

// Inlined: its row has a frame without a call.
func inlined(size int) []byte { return make([]byte, size) }

//go:noinline
func leaf(path int) {
	keep(make([]byte, 100+path*16))
	if path%4 == 0 {
		keep(inlined(3000 + path))
	}
}

//go:noinline
func left(path, depth int) {
	if depth == 0 {
		leaf(path)
		return
	}
	turn(path*2, depth-1)
}

//go:noinline
func right(path, depth int) {
	if depth == 0 {
		leaf(path)
		return
	}
	turn(path*2+1, depth-1)
}

var bits int

//go:noinline
func turn(path, depth int) {
	if bits>>depth&1 == 0 {
		left(path, depth)
	} else {
		right(path, depth)
	}
}

// Deeper than any profile goes.
//
//go:noinline
func deep(depth int) {
	if depth == 0 {
		keep(make([]byte, 7777))
		return
	}
	deep(depth - 1)
}

func allocate(times int) {
	for range make([]struct{}, times) {
		for bits = 0; bits < 64; bits++ {
			turn(0, 6)
		}
		deep(300)
	}
}

func collections() uint32 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.NumGC
}

// One collection of the runtime's own making, which nobody waits for.
func pressure() {
	before := collections()
	debug.SetGCPercent(5)
	for i := 0; collections() == before && i < 100000; i++ {
		sink = make([]byte, 64<<10)
	}
	debug.SetGCPercent(-1)
	time.Sleep(300 * time.Millisecond)
}

var stormy atomic.Bool

func storm() {
	stormy.Store(true)
	go func() {
		for stormy.Load() {
			runtime.GC()
			time.Sleep(5 * time.Millisecond)
		}
	}()
}

func text(name string) {
	file, err := os.Create(name)
	if err != nil {
		panic(err)
	}
	if err := pprof.Lookup("heap").WriteTo(file, 1); err != nil {
		panic(err)
	}
	file.Close()
}

func obey(words []string) {
	switch words[0] {
	case "allocate":
		times, _ := strconv.Atoi(words[1])
		allocate(times)
	case "drop":
		for i := 0; i < len(kept); i += 2 {
			kept[i] = nil
		}
	case "collect":
		runtime.GC()
	case "pressure":
		pressure()
	case "storm":
		storm()
	case "calm":
		stormy.Store(false)
	case "text":
		text(words[1])
	default:
		panic(words[0])
	}
}

func main() {
	debug.SetGCPercent(-1)
	runtime.MemProfileRate = 1
	if len(os.Args) > 1 {
		runtime.MemProfileRate, _ = strconv.Atoi(os.Args[1])
	}
	fmt.Println("ready")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		obey(strings.Fields(lines.Text()))
		fmt.Println("done")
	}
}
