// Command toxiproxy is Toxiproxy's server as it is published, built from its Go module, listening on 127.0.0.1. Its own main
// package cannot be imported; this one leaves out what the soak does not use.
package main

import (
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

func main() {
	port := flag.String("port", "8474", "port of 127.0.0.1 on which the admin API listens")
	flag.Parse()

	// A line for each connection that fails would be a line for each fault.
	logger := zerolog.New(os.Stderr).Level(zerolog.ErrorLevel).With().Timestamp().Logger()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), logger)
	go func() {
		if err := server.Listen(net.JoinHostPort("127.0.0.1", *port)); err != nil {
			fmt.Fprintln(os.Stderr, "toxiproxy:", err)
			os.Exit(1)
		}
	}()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	<-stop
	_ = server.Shutdown()
}
