package signer_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/signer"
)

// TestWrongBodies: what is not exactly a request is a clear 400 that says
// where, with a text that a person can use, and repeats no more of it than it
// must. Whoever asks for something else than they think must hear it.
func TestWrongBodies(t *testing.T) {
	b := newBench(t, 1, nil)
	right := string(encode(t, attestation(epochNow-1, epochNow, 1)))
	swap := func(old, new string) string {
		if strings.Count(right, old) != 1 {
			t.Fatalf("%d times %s in %s", strings.Count(right, old), old, right)
		}
		return strings.Replace(right, old, new, 1)
	}
	slot := fmt.Sprintf(`"slot":"%d"`, epochNow*32)
	for name, c := range map[string]struct{ body, says string }{
		"another case of a name":    {swap(slot, fmt.Sprintf(`"Slot":"%d"`, epochNow*32)), `"slot" is missing`},
		"another case of the type":  {swap(`"type"`, `"Type"`), "type: it is missing"},
		"the type in lower case":    {swap(`"ATTESTATION"`, `"attestation"`), `"attestation" is none`},
		"a number without quotes":   {swap(slot, fmt.Sprintf(`"slot":%d`, epochNow*32)), "attestation.slot: not a string"},
		"a negative number":         {swap(slot, `"slot":"-1"`), "attestation.slot"},
		"a number in hex":           {swap(slot, `"slot":"0x10"`), "attestation.slot"},
		"a fraction":                {swap(slot, `"slot":"1.0"`), "attestation.slot"},
		"2^64":                      {swap(slot, `"slot":"18446744073709551616"`), "attestation.slot"},
		"null":                      {swap(slot, `"slot":null`), "attestation.slot: not a string"},
		"an object for a number":    {swap(slot, `"slot":{}`), "attestation.slot: not a string"},
		"an unknown field":          {swap(slot, slot+`,"slot_2":"1"`), `"slot_2" is unknown`},
		"a field twice":             {swap(slot, slot+`,"slot":"1"`), "twice"},
		"an array for the message":  {swap(`"attestation":{`, `"attestation":[],"x":{`), "attestation: not an object"},
		"a message of another type": {swap(`"attestation":{`, `"block":{`), "attestation: it is missing"},
		"a short root":              {strings.Replace(right, hexOf(32, 2), hexOf(31, 2), 1), "31 bytes, not 32"},
		"odd hex":                   {strings.Replace(right, hexOf(32, 2), hexOf(32, 2)+"0", 1), "hex"},
		"no fork":                   {swap(`"fork_info"`, `"fork"`), "fork_info: it is missing"},
		"something behind it":       {right + "x", "something follows"},
		"a comment":                 {"/* */" + right, "byte 0"},
		"half of it":                {right[:len(right)/2], "byte"},
		"an escaped name":           {swap(`"type"`, `"\u0074ype"`), "escape"},
		"no UTF-8":                  {swap(`"ATTESTATION"`, "\"ATTEST\xff\""), "UTF-8"},
		"a byte order mark":         {"\xef\xbb\xbf" + right, "byte 0"},
		"an endless text":           {swap(`"ATTESTATION"`, `"`+strings.Repeat("A", 20_000)+`"`), "none that is signed"},
		"nothing":                   {"", "byte 0"},
		"nothing but null":          {"null", "not a JSON object"},
	} {
		a := b.raw(t, c.body)
		if a.status != http.StatusBadRequest || !strings.Contains(a.body, c.says) || len(a.body) > 400 {
			t.Errorf("%s: %d, %q does not say %q", name, a.status, a.body, c.says)
		}
	}
	if a := b.sign(t, b.keys[0], right); a.status != http.StatusOK {
		t.Errorf("the right one: %+v", a)
	}
}

// raw asks without holding it against the document, which takes some of what is
// refused: no schema says that nothing follows.
func (b *bench) raw(t *testing.T, body string) answer {
	t.Helper()
	r, err := b.server.Client().Post(b.server.URL+"/api/v1/eth2/sign/"+b.keys[0].String(), "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	data, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{r.StatusCode, r.Header, string(data)}
}

// FuzzSign sends any body, to the path of one signature and of many: the answer
// is one of those that docs/signing.md lists, no request ends in a panic, and
// nothing is signed for a key that is not there.
func FuzzSign(f *testing.F) {
	f.Add([]byte("{}"), false)
	f.Add([]byte(""), true)
	f.Add(encode(f, attestation(1, 2, 1)), false)
	f.Add(encode(f, block(5, 1)), false)
	f.Add(encode(f, []any{map[string]any{"identifiers": []string{hexOf(48, 1)}, "signing_request": attestation(1, 2, 1)}}), true)
	b := newBench(f, 1, nil)
	handler := b.service.Handler()
	f.Fuzz(func(t *testing.T, body []byte, many bool) {
		path := "/api/v1/eth2/sign/" + hexOf(48, 1) // of no key here
		if many {
			path = "/stakeseal/v1/sign"
		}
		r := httptest.NewRequest("POST", "http://localhost"+path, bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		switch {
		case w.Code == http.StatusBadRequest, w.Code == http.StatusRequestEntityTooLarge:
		case !many && w.Code == http.StatusNotFound:
		case many && w.Code == http.StatusOK && !strings.Contains(w.Body.String(), `"signature"`):
		default:
			t.Errorf("%d %.200s", w.Code, w.Body)
		}
	})
}

// TestSlowClients: hundreds that send their request byte by byte, or never to
// its end, hold little memory, keep nobody else from signing, and are cut off.
func TestSlowClients(t *testing.T) {
	b := newBench(t, 1, nil)
	b.server.Config.ReadHeaderTimeout, b.server.Config.ReadTimeout = time.Second, 2*time.Second // five and twenty
	path := "/api/v1/eth2/sign/" + b.keys[0].String()
	head := "POST " + path + " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
	const slow = 400
	before := heap()
	var group sync.WaitGroup
	ended := make(chan string, slow)
	for i := range slow {
		sent := []string{
			head,                                    // headers without an end
			head + "Content-Length: 65536\r\n\r\n{", // a body that was promised
			head + "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
			"",
		}[i%4]
		conn, err := net.Dial("tcp", b.server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, sent); err != nil {
			t.Fatal(err)
		}
		group.Go(func() {
			line, _ := bufio.NewReader(conn).ReadString('\n') // an answer, or the end
			ended <- strings.TrimSpace(line)
		})
	}
	if a := b.sign(t, b.keys[0], attestation(1, 2, 1)); a.status != http.StatusOK {
		t.Errorf("with %d slow clients: %+v", slow, a)
	}
	if grown := heap() - before; grown > 64<<20 {
		t.Errorf("%d slow clients hold %d bytes", slow, grown)
	}
	group.Wait() // each is cut off, or this never ends
	close(ended)
	for line := range ended {
		if strings.Contains(line, " 200 ") || strings.Contains(line, " 500 ") {
			t.Errorf("a slow client heard %q", line)
		}
	}
	if a := b.sign(t, b.keys[0], attestation(1, 2, 1)); a.status != http.StatusOK {
		t.Errorf("afterwards: %+v", a)
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse) //nolint:gosec // far below 2^63
}

// TestManyStreams: over HTTP/2 one connection brings a thousand requests, whose
// bodies never end. Beyond some thousand of them the next ones hear 503, and
// when they are gone everything is as before.
func TestManyStreams(t *testing.T) {
	b := newBench(t, 1, nil)
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	path := b.server.URL + "/api/v1/eth2/sign/" + b.keys[0].String()
	before := heap()
	const connections, streams = 3, 1000
	codes := make(chan int, connections*streams)
	var group sync.WaitGroup
	var bodies []*io.PipeWriter
	for range connections {
		transport := &http.Transport{Protocols: protocols}
		defer transport.CloseIdleConnections()
		client := &http.Client{Transport: transport}
		for range streams {
			read, write := io.Pipe()
			bodies = append(bodies, write)
			r, err := http.NewRequestWithContext(ctx, "POST", path, read)
			if err != nil {
				t.Fatal(err)
			}
			r.ContentLength = 1000
			r.Header.Set("Content-Type", "application/json")
			group.Go(func() {
				response, err := client.Do(r)
				if err != nil {
					codes <- 0
					return
				}
				defer response.Body.Close()
				codes <- response.StatusCode
			})
		}
	}
	for range connections*streams - signer.SmallBodies {
		if code := <-codes; code != http.StatusServiceUnavailable {
			t.Fatalf("one too many heard %d", code)
		}
	}
	grown := heap() - before // the client's half of it too, which is the larger
	for _, body := range bodies {
		_ = body.CloseWithError(io.ErrUnexpectedEOF)
	}
	group.Wait()
	t.Logf("%d streams: %d KiB each, with the client's share", connections*streams, grown>>10/(connections*streams))
	if grown > connections*streams*128<<10 {
		t.Errorf("%d streams hold %d bytes", connections*streams, grown)
	}
	if a := b.sign(t, b.keys[0], attestation(1, 2, 1)); a.status != http.StatusOK {
		t.Errorf("afterwards: %+v", a)
	}
}
