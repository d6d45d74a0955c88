package island

import (
	"encoding/binary"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// raiseLoopback does what "ip link set lo up" does. It brings 127.0.0.1 and
// ::1 with it.
func raiseLoopback() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(s) }()
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(s, unix.SIOCGIFFLAGS, request); err != nil {
		return err
	}
	request.SetUint16(request.Uint16() | unix.IFF_UP)
	return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, request)
}

// routeAll makes every address one of this machine, so that a packet for it
// goes over lo, where it is seen, and is refused by the kernel there. Without
// it the kernel would refuse inside connect, unseen.
func routeAll() error {
	if err := routeFamily(unix.AF_INET); err != nil {
		return err
	}
	if _, err := os.Stat("/proc/sys/net/ipv6"); err == nil { // a kernel without IPv6 sends none
		return routeFamily(unix.AF_INET6)
	}
	return nil
}

// routeFamily is "ip route add local default dev lo table local", as a netlink
// message: header, struct rtmsg, attributes.
func routeFamily(family byte) error {
	const loopback = 1 // the first interface of every network namespace
	message := unix.RtMsg{
		Family: family, Table: unix.RT_TABLE_LOCAL, Protocol: unix.RTPROT_BOOT,
		Scope: unix.RT_SCOPE_HOST, Type: unix.RTN_LOCAL,
	}
	body := append([]byte(nil), unsafe.Slice((*byte)(unsafe.Pointer(&message)), unix.SizeofRtMsg)...)
	body = binary.NativeEndian.AppendUint16(body, unix.SizeofRtAttr+4)
	body = binary.NativeEndian.AppendUint16(body, unix.RTA_OIF)
	body = binary.NativeEndian.AppendUint32(body, loopback)

	packet := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	packet = binary.NativeEndian.AppendUint16(packet, unix.RTM_NEWROUTE)
	packet = binary.NativeEndian.AppendUint16(packet, unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	packet = binary.NativeEndian.AppendUint32(packet, 1) // sequence
	packet = binary.NativeEndian.AppendUint32(packet, 0) // to the kernel
	packet = append(packet, body...)

	s, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(s) }()
	if err := unix.Sendto(s, packet, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(s, answer, 0)
	if err != nil {
		return err
	}
	if n < unix.SizeofNlMsghdr+4 || binary.NativeEndian.Uint16(answer[4:]) != unix.NLMSG_ERROR {
		return fmt.Errorf("the kernel answered %d bytes that say nothing", n)
	}
	if code := int32(binary.NativeEndian.Uint32(answer[unix.SizeofNlMsghdr:])); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}
