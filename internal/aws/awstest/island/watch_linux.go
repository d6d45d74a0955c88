package island

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// watch keeps what lo carries of first packets. The kernel hands a copy to its
// socket while the packet is being sent, so that an attempt is in the queue
// before connect or sendto returns: no waiting is needed to see all.
type watch struct {
	file *os.File
	raw  syscall.RawConn

	mu   sync.Mutex
	seen []Attempt
	lost int
}

// firsts is a filter for the kernel (classic BPF, from the network header on):
// of what leaves a socket, TCP segments with SYN and without ACK, and all that
// is not TCP. The queue then holds no payload that anybody sends.
var firsts = []unix.SockFilter{
	// A packet on lo is seen as it is sent and as it arrives: once is enough.
	{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: skfPacketType},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.PACKET_OUTGOING, Jf: 14},
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 0},
	{Code: unix.BPF_ALU | unix.BPF_RSH | unix.BPF_K, K: 4},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 6, Jt: 5}, // IPv6
	// IPv4: TCP's flags are 13 bytes behind a header of variable length.
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 9},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.IPPROTO_TCP, Jf: 8},
	{Code: unix.BPF_LDX | unix.BPF_B | unix.BPF_MSH, K: 0},
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_IND, K: 13},
	{Code: unix.BPF_JMP | unix.BPF_JA, K: 3},
	// IPv6.
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 6},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.IPPROTO_TCP, Jf: 3},
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 40 + 13},
	// Both: SYN without ACK.
	{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: 0x12},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 0x02, Jf: 1},
	{Code: unix.BPF_RET | unix.BPF_K, K: 256},
	{Code: unix.BPF_RET | unix.BPF_K, K: 0},
}

// skfPacketType is where a filter finds the kind of a packet: SKF_AD_OFF +
// SKF_AD_PKTTYPE of linux/filter.h.
const skfPacketType = 0xfffff000 + 4

func newWatch() (*watch, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	program := unix.SockFprog{Len: uint16(len(firsts)), Filter: &firsts[0]}
	err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program)
	if err == nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20) // as much as is allowed
		// Only now does it receive: nothing came through before the filter.
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: bigEndian(unix.ETH_P_ALL), Ifindex: 1})
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	w := &watch{file: os.NewFile(uintptr(fd), "watch")}
	if w.raw, err = w.file.SyscallConn(); err != nil {
		return nil, err
	}
	go func() { // keeps the queue short, for as long as the program lives
		_ = w.raw.Read(func(fd uintptr) bool { w.drain(int(fd)); return false })
	}()
	return w, nil
}

func bigEndian(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}

// all drains the queue and returns what was ever in it.
func (w *watch) all() ([]Attempt, int) {
	_ = w.raw.Control(func(fd uintptr) { w.drain(int(fd)) })
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.seen), w.lost
}

func (w *watch) drain(fd int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	packet := make([]byte, 256)
	for {
		n, _, err := unix.Recvfrom(fd, packet, unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			break
		}
		if a, ok := parsePacket(packet[:n]); ok {
			w.seen = append(w.seen, a)
		}
	}
	// Reading the statistics clears them.
	if s, err := unix.GetsockoptTpacketStats(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
		w.lost += int(s.Drops)
	}
}

// parsePacket reads who a packet is for. Errors that the kernel sends back
// (ICMP) are nobody's attempt.
func parsePacket(p []byte) (Attempt, bool) {
	if len(p) < 20 {
		return Attempt{}, false
	}
	var protocol byte
	var from, to netip.Addr
	var rest []byte
	switch p[0] >> 4 {
	case 4:
		protocol, from, to = p[9], netip.AddrFrom4([4]byte(p[12:16])), netip.AddrFrom4([4]byte(p[16:20]))
		rest = p[min(int(p[0]&0x0f)*4, len(p)):]
	case 6:
		if len(p) < 40 {
			return Attempt{}, false
		}
		protocol, rest = p[6], p[40:]
		from, to = netip.AddrFrom16([16]byte(p[8:24])), netip.AddrFrom16([16]byte(p[24:40]))
	default:
		return Attempt{}, false
	}
	a := Attempt{Network: strconv.Itoa(int(protocol))}
	var own, port uint16
	switch protocol {
	case unix.IPPROTO_TCP, unix.IPPROTO_UDP:
		a.Network = map[byte]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp"}[protocol]
		if len(rest) >= 4 {
			own, port = binary.BigEndian.Uint16(rest), binary.BigEndian.Uint16(rest[2:])
		}
	case unix.IPPROTO_ICMP:
		const echo = 8
		if len(rest) == 0 || rest[0] != echo {
			return Attempt{}, false
		}
		a.Network = "icmp"
	case unix.IPPROTO_ICMPV6:
		const echo = 128
		if len(rest) == 0 || rest[0] != echo {
			return Attempt{}, false
		}
		a.Network = "icmp6"
	case 0: // the kernel's own multicast reports carry a hop-by-hop header
		if to.IsMulticast() {
			return Attempt{}, false
		}
	}
	a.From, a.To = netip.AddrPortFrom(from, own), netip.AddrPortFrom(to, port)
	return a, true
}
