// Command pause does nothing until it is asked to end. As the first process of a
// pod's sandbox it holds the pod's namespaces open. It does not collect orphaned
// children: no pod of the testbed shares its process namespace.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGINT, syscall.SIGTERM)
	<-end
}
