// gospin burns CPU in main.spinHere, called by main.outer, until it is ended.
package main

import "fmt"

var sink uint64

//go:noinline
func spinHere(rounds int) {
	value := sink
	for i := 0; i < rounds; i++ {
		value = value*6364136223846793005 + 1442695040888963407
	}
	sink = value
}

//go:noinline
func outer() {
	spinHere(300000)
	sink++
}

func main() {
	fmt.Println("ready")
	for {
		outer()
	}
}
