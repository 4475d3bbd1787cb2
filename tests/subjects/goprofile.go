// goprofile FILE writes a CPU profile of itself, made by Go's own runtime/pprof, of a second in main.spinHere with the label phase=one.
package main

import (
	"context"
	"os"
	"runtime/pprof"
	"time"
)

var sink uint64

//go:noinline
func spinHere() {
	value := sink
	for i := 0; i < 1000000; i++ {
		value = value*6364136223846793005 + 1442695040888963407
	}
	sink = value
}

func main() {
	file, err := os.Create(os.Args[1])
	if err != nil {
		panic(err)
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		panic(err)
	}
	pprof.Do(context.Background(), pprof.Labels("phase", "one"), func(context.Context) {
		for begin := time.Now(); time.Since(begin) < time.Second; {
			spinHere()
		}
	})
	pprof.StopCPUProfile()
	if err := file.Close(); err != nil {
		panic(err)
	}
}
