package gsyncd

import (
	"encoding/json"
	"net"
	"os"
	"strconv"
)

// The events that Gluster's event daemon knows of geo-replication.
const (
	eventFaulty     = 91
	eventCheckpoint = 92
	eventActive     = 93
	eventPassive    = 94
)

// eventPort is where the event daemon listens unless its configuration says otherwise.
const eventPort = 55555

// send sends one datagram to the event daemon of this host.
func send(text string) {
	conn, err := net.Dial("udp", net.JoinHostPort("127.0.0.1", strconv.Itoa(configuredEventPort())))
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = conn.Write([]byte(text)) // often nobody listens
}

func configuredEventPort() int {
	port := eventPort
	for _, path := range []string{"/etc/glusterfs/eventsconfig.json", "/var/lib/glusterd/events/config.json"} {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		var found struct {
			Port int `json:"port"`
		}
		if json.Unmarshal(text, &found) == nil && found.Port > 0 && found.Port < 65536 {
			port = found.Port
		}
	}
	return port
}
