package onlambda

import (
	"bytes"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stakeseal/stakeseal/birth"
)

// trap is a server that nobody has a reason to talk to.
func trap(t *testing.T) (address string, caught *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	caught = new(atomic.Int64)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			caught.Add(1)
			_ = conn.Close()
		}
	}()
	return l.Addr().String(), caught
}

// TestPoisoned: whoever may change the function's configuration chooses its
// environment, and gets nothing for it: not a key, not a byte.
func TestPoisoned(t *testing.T) {
	s := newSite(t, nil)
	s.made(s.request("before", 1))
	at, caught := trap(t)
	url := "http://" + at
	for _, poison := range []map[string]string{
		{"AWS_ENDPOINT_URL": url},
		{"AWS_ENDPOINT_URL_KMS": url},
		{"AWS_ENDPOINT_URL_DYNAMODB": url},
		{"AWS_ENDPOINT_URL_S3": url},
		{"HTTPS_PROXY": url},
		{"https_proxy": url},
		{"ALL_PROXY": "socks5://" + at},
		{"NO_PROXY": ""},
		{"SSL_CERT_FILE": "/var/task/recipients/anna.txt"},
		{"SSL_CERT_DIR": "/tmp"},
		{"AWS_CA_BUNDLE": "/var/task/recipients/anna.txt"},
		{"AWS_CONFIG_FILE": "/var/task/recipients/anna.txt"},
		{"AWS_SHARED_CREDENTIALS_FILE": "/var/task/recipients/anna.txt"},
		{"AWS_PROFILE": "other"},
		{"AWS_CONTAINER_CREDENTIALS_FULL_URI": url},
		{"AWS_EC2_METADATA_SERVICE_ENDPOINT": url},
		{"AWS_WEB_IDENTITY_TOKEN_FILE": "/tmp/token"},
		{"AWS_USE_FIPS_ENDPOINT": "true"},
		{"AWS_STS_REGIONAL_ENDPOINTS": "legacy"},
		{"GODEBUG": "http2debug=2"},
		{"GODEBUG": ""},
		{"GOTRACEBACK": "crash"},
		{"GOMAXPROCS": "1"},
		{"SSLKEYLOGFILE": "/tmp/keys"},
		{"RES_OPTIONS": "debug"},
		{"LOCALDOMAIN": "evil.example"},
		{"LD_PRELOAD": "/tmp/evil.so"},
		{"LD_LIBRARY_PATH": "/tmp"},
		{"AWS_LAMBDA_EXEC_WRAPPER": "/tmp/wrapper"},
		{"STAKESEAL_HOME": "/tmp"},
		{"LAMBDA_TASK_ROOT": "/tmp"},
		{"TZ": "/tmp/zone"},
		// Forged marks of an environment that was cleaned already.
		{"GOTRACEBACK": "none", "AWS_ENDPOINT_URL_KMS": url},
		{"GOTRACEBACK": "none", "HTTPS_PROXY": url, "SSL_CERT_FILE": "/tmp/ca.pem"},
		{"STAKESEAL_CLEAN": "1", "GOTRACEBACK": "none"},
	} {
		name, words := "", ""
		for k, v := range poison {
			name, words = strings.TrimSpace(name+" "+k+"="+v), k
		}
		if len(poison) > 1 {
			words = "" // whichever it comes to first
		}
		must(t, s.Configure(poison, 0, 0, 0))
		s.publish()
		tables, objects, calls := s.Tables.Dump(), s.Buckets.Dump(), len(s.Trail())
		s.refused(s.request("poisoned", 1), birth.ClassInit, words)
		if !bytes.Equal(s.Tables.Dump(), tables) || !bytes.Equal(s.Buckets.Dump(), objects) {
			t.Errorf("%s: something was written", name)
		}
		for _, e := range s.Trail()[calls:] {
			if e.Service != "lambda" || e.Action != "Invoke" {
				t.Errorf("%s: it called %s %s", name, e.Service, e.Action)
			}
		}
		if strays := s.Strays(); len(strays) > 0 || caught.Load() > 0 {
			t.Fatalf("%s: it went to %v, %d times into the trap", name, strays, caught.Load())
		}
	}

	// The marker alone is what Lambda could have set: it changes nothing.
	must(t, s.Configure(map[string]string{"GOTRACEBACK": "none"}, 0, 0, 0))
	s.publish()
	s.whole("marked", 1, s.made(s.request("marked", 1)).answer.Receipt)
	s.strayed()
	if n := len(s.rows("poisoned")); n > 0 {
		t.Errorf("%d keys were made", n)
	}
	for _, fact := range s.facts() {
		if fact["fact"] == "error" && fact["class"] != birth.ClassInit {
			t.Errorf("the log says %v", fact)
		}
	}

	// And the trap would have caught it.
	conn, err := net.Dial("tcp", at)
	must(t, err)
	_, _ = conn.Read(make([]byte, 1)) // until it is closed
	_ = conn.Close()
	if strays := s.Strays(); len(strays) != 1 || caught.Load() != 1 {
		t.Errorf("a call into the trap: %v, %d", strays, caught.Load())
	}
}
