// gowaits has goroutines wait on many call paths and does what it is told, a line of standard input at a time, each answered by a line: `block N` and `mutex N`
// (the rates), `wait N` (each path N times), `text FILE FILE` (the profiles block and mutex as runtime/pprof writes them, debug=1). Between its orders nobody waits
// for long: what is read then stands still, but for the wait for the order itself.
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"time"
)

const hold = 2 * time.Millisecond

type guarded struct {
	sync.Mutex
	value int
}

// Inlined into whoever calls it: the frame has no call of its own.
func (g *guarded) add(n int) {
	g.Lock()
	g.value += n
	g.Unlock()
}

//go:noinline
func waits(path int, lock *guarded, ready chan int) {
	switch path % 8 {
	case 1:
		<-ready
	case 3:
		select {
		case <-ready:
		case <-make(chan int):
		}
	case 5, 7:
		var group sync.WaitGroup
		group.Add(1)
		go func() { time.Sleep(hold); group.Done() }()
		group.Wait()
	default:
		lock.add(path)
	}
}

//go:noinline
func left(bits, depth int, end func()) {
	turn(bits, depth-1, end)
}

//go:noinline
func right(bits, depth int, end func()) {
	turn(bits, depth-1, end)
}

// Each number of six bits is a path of its own.
//
//go:noinline
func turn(bits, depth int, end func()) {
	switch {
	case depth == 0:
		end()
	case bits>>(depth-1)&1 == 0:
		left(bits, depth, end)
	default:
		right(bits, depth, end)
	}
}

func once(path int) {
	lock, ready := &guarded{}, make(chan int)
	lock.Lock()
	// With room, so that nobody's wait is counted after the order was answered.
	done := make(chan bool, 1)
	go func() {
		turn(path, 6, func() { waits(path, lock, ready) })
		done <- true
	}()
	runtime.Gosched()
	turn(path, 6, func() {
		time.Sleep(hold)
		lock.Unlock()
	})
	if path%8 == 1 || path%8 == 3 {
		ready <- 1
	}
	<-done
}

func text(block, mutex string) {
	for name, of := range map[string]string{block: "block", mutex: "mutex"} {
		file, err := os.Create(name)
		if err != nil {
			panic(err)
		}
		if err := pprof.Lookup(of).WriteTo(file, 1); err != nil {
			panic(err)
		}
		file.Close()
	}
}

func obey(words []string) {
	number, _ := strconv.Atoi(words[len(words)-1])
	switch words[0] {
	case "block":
		runtime.SetBlockProfileRate(number)
	case "mutex":
		runtime.SetMutexProfileFraction(number)
	case "wait":
		for range make([]struct{}, number) {
			for path := 0; path < 64; path++ {
				once(path)
			}
		}
	case "text":
		text(words[1], words[2])
	default:
		panic(words[0])
	}
}

func main() {
	fmt.Println("ready")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		obey(strings.Fields(lines.Text()))
		fmt.Println("done")
	}
}
