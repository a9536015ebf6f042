package gatekeeper

import (
	"fmt"
	"net"
	"net/netip"
	"time"
)

// proxySignature begins a PROXY protocol header, version 2 (HAProxy, "The PROXY
// protocol", section 2.2).
const proxySignature = "\r\n\r\n\x00\r\nQUIT\n"

// The bytes after the signature: version 2 and command PROXY, then address family
// and transport.
const (
	proxyVersionCommand = 0x21
	proxyTCP4           = 0x11
	proxyTCP6           = 0x21
)

// proxyHeader returns the header that announces client as the source of a
// connection to server. The client's port is not known and is 0.
func proxyHeader(client netip.Addr, server netip.AddrPort) []byte {
	client = client.Unmap().WithZone("")
	target := server.Addr().Unmap().WithZone("")
	out := append([]byte(proxySignature), proxyVersionCommand)
	if client.Is4() && target.Is4() {
		out = append(out, proxyTCP4, 0, 12)
		out = append(out, client.AsSlice()...)
		out = append(out, target.AsSlice()...)
	} else {
		// Both must be of one family: an IPv4 address is written as IPv6-mapped.
		from, to := client.As16(), netip.IPv6Unspecified().As16()
		if target.IsValid() {
			to = target.As16()
		}
		out = append(out, proxyTCP6, 0, 36)
		out = append(out, from[:]...)
		out = append(out, to[:]...)
	}
	port := server.Port()
	return append(out, 0, 0, byte(port>>8), byte(port))
}

// writeProxyHeader sends the header ahead of anything else (PROTOCOL.md 4.7).
func writeProxyHeader(conn net.Conn, client netip.Addr, patience time.Duration) error {
	var server netip.AddrPort
	if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		server = tcp.AddrPort()
	}
	if err := conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return fmt.Errorf("write proxy header: %w", err)
	}
	if _, err := conn.Write(proxyHeader(client, server)); err != nil {
		return fmt.Errorf("write proxy header: %w", err)
	}
	return nil
}
