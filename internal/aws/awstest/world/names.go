package world

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"strings"
	"time"
)

// endpoint is what a host name stands for.
type endpoint struct {
	service string // as in its name: kms
	region  string
	bucket  string // of s3
}

// host reads a name of AWS: SERVICE.REGION.amazonaws.com,
// BUCKET.s3.REGION.amazonaws.com, iam.amazonaws.com.
func host(name string) (endpoint, bool) {
	rest, ok := strings.CutSuffix(strings.ToLower(name), ".amazonaws.com")
	if !ok {
		return endpoint{}, false
	}
	if rest == "iam" {
		return endpoint{service: "iam", region: Region}, true
	}
	parts := strings.Split(rest, ".")
	if len(parts) < 2 || !slices.Contains(regions, parts[len(parts)-1]) {
		return endpoint{}, false
	}
	e := endpoint{service: parts[len(parts)-2], region: parts[len(parts)-1]}
	switch {
	case e.service == "s3" && len(parts) == 3:
		e.bucket = parts[0]
	case len(parts) != 2 || e.service == "iam":
		return endpoint{}, false
	}
	_, known := services[e.service]
	return e, known
}

// serves says whether the world answers under a name, and notes it if not.
func (w *World) serves(name string) bool {
	_, ok := host(name)
	if !ok {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.unknown = append(w.unknown, name)
	}
	return ok
}

// resolves is serves for the name server. That a resolver tries a name with
// the machine's search domains behind it is the same question.
func (w *World) resolves(name string) bool {
	return name == "localhost" || w.serves(name)
}

// nameServer answers 127.0.0.1 for the names that exist, and that there is no
// such name for all others (RFC 1035).
type nameServer struct {
	udp    net.PacketConn
	tcp    net.Listener
	exists func(name string) bool
}

func newNameServer(address string, exists func(string) bool) (*nameServer, error) {
	udp, err := new(net.ListenConfig).ListenPacket(context.Background(), "udp", address)
	if err != nil {
		return nil, err
	}
	tcp, err := new(net.ListenConfig).Listen(context.Background(), "tcp", address)
	if err != nil {
		_ = udp.Close()
		return nil, err
	}
	s := &nameServer{udp, tcp, exists}
	go s.datagrams()
	go s.connections()
	return s, nil
}

func (s *nameServer) close() { _, _ = s.udp.Close(), s.tcp.Close() }

func (s *nameServer) datagrams() {
	packet := make([]byte, 4096)
	for {
		n, from, err := s.udp.ReadFrom(packet)
		if err != nil {
			return
		}
		if answer := s.answer(packet[:n]); answer != nil {
			_, _ = s.udp.WriteTo(answer, from)
		}
	}
}

func (s *nameServer) connections() {
	for {
		conn, err := s.tcp.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
			length := make([]byte, 2)
			if _, err := io.ReadFull(conn, length); err != nil {
				return
			}
			packet := make([]byte, binary.BigEndian.Uint16(length))
			if _, err := io.ReadFull(conn, packet); err != nil {
				return
			}
			if answer := s.answer(packet); answer != nil {
				_, _ = conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
			}
		}()
	}
}

const (
	dnsHeader = 12
	typeA     = 1
	classIN   = 1
	noName    = 3
)

// answer replies to a query of one question; nil to what is none.
func (s *nameServer) answer(q []byte) []byte {
	if len(q) < dnsHeader || q[2]&0x80 != 0 || binary.BigEndian.Uint16(q[4:]) != 1 {
		return nil
	}
	var labels []string
	at := dnsHeader
	for {
		if at >= len(q) {
			return nil
		}
		n := int(q[at])
		if at++; n == 0 {
			break
		}
		if n > 63 || at+n > len(q) {
			return nil
		}
		labels = append(labels, string(q[at:at+n]))
		at += n
	}
	if at+4 > len(q) {
		return nil
	}
	kind, class := binary.BigEndian.Uint16(q[at:]), binary.BigEndian.Uint16(q[at+2:])
	question := q[dnsHeader : at+4]
	exists := s.exists(strings.ToLower(strings.Join(labels, ".")))
	flags, answers := uint16(0x8580)|uint16(q[2]&1)<<8, uint16(0) // an answer, authoritative, recursion as asked and offered
	if !exists {
		flags |= noName
	}
	var record []byte
	if exists && kind == typeA && class == classIN {
		answers = 1
		record = []byte{0xc0, dnsHeader, 0, typeA, 0, classIN, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1} // no time to live
	}
	out := append([]byte{}, q[:2]...)
	for _, n := range []uint16{flags, 1, answers, 0, 0} {
		out = binary.BigEndian.AppendUint16(out, n)
	}
	return append(append(out, question...), record...)
}
