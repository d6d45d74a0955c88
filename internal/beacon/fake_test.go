package beacon

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/deposit"
	"github.com/stakeseal/stakeseal/eth"
)

// fake is a beacon node on 127.0.0.1 that behaves well until a test changes
// it: the fields make it lie within the API's form, override breaks the form.
type fake struct {
	*httptest.Server
	net        eth.Network
	head       uint64
	blocks     map[uint64]eth.Root // default: root(slot)
	validators map[eth.Pubkey]deposit.Validator
	pending    []pendingEntry

	syncing, optimistic, offline bool

	spec   map[string]any // of the configuration, in place of what is right
	refuse string         // the message with which exits are refused
	taken  []string       // exits, as they were posted
	lives  map[eth.Pubkey][3]uint64

	// override takes over requests whose path ends so.
	override map[string]http.HandlerFunc

	mu    sync.Mutex
	asked []string // method and path with query
	ids   []int    // ids of each validators request
}

type pendingEntry struct {
	pubkey eth.Pubkey
	deposit.Pending
}

// clock is 100 slots into hoodi.
var (
	hoodi, _ = eth.LookupNetwork("hoodi")
	clock    = func() time.Time { return time.Unix(hoodi.GenesisTime+1200, 0) }
)

func root(slot uint64) (r eth.Root) {
	binary.BigEndian.PutUint64(r[:], slot)
	r[31] = 1
	return r
}

func pubkey(n uint64) (p eth.Pubkey) {
	p[0] = 0xa0
	binary.BigEndian.PutUint64(p[40:], n)
	return p
}

func pubkeys(n int) (out []eth.Pubkey) {
	for i := range n {
		out = append(out, pubkey(uint64(i+1)))
	}
	return out
}

func newFake(t testing.TB) *fake {
	f := &fake{net: hoodi, head: 100, blocks: map[uint64]eth.Root{}, validators: map[eth.Pubkey]deposit.Validator{}, override: map[string]http.HandlerFunc{}}
	f.validators[pubkey(1<<40)] = deposit.Validator{Index: 0, Status: deposit.ActiveOngoing, Credentials: eth.Credentials{1}, Balance: 32e9}
	f.Server = httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(f.Close)
	return f
}

func (f *fake) node(t testing.TB) *Node {
	t.Helper()
	n, err := NewNode(f.URL, 0)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (f *fake) serve(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.asked = append(f.asked, r.Method+" "+r.URL.RequestURI())
	f.mu.Unlock()
	for suffix, h := range f.override {
		if strings.HasSuffix(r.URL.Path, suffix) {
			h(w, r)
			return
		}
	}
	f.good(w, r)
}

func (f *fake) good(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	switch {
	case path == "/eth/v1/beacon/genesis":
		answer(w, `{"data":{"genesis_time":"%d","genesis_validators_root":"%s","genesis_fork_version":"%s"}}`,
			f.net.GenesisTime, f.net.GenesisValidatorsRoot, f.net.GenesisForkVersion)
	case path == "/eth/v1/node/syncing":
		answer(w, `{"data":{"head_slot":"%d","sync_distance":"0","is_syncing":%t,"is_optimistic":%t,"el_offline":%t}}`, f.head, f.syncing, f.optimistic, f.offline)
	case strings.HasPrefix(path, "/eth/v1/beacon/headers/"):
		slot := f.head
		if name := strings.TrimPrefix(path, "/eth/v1/beacon/headers/"); name != "head" {
			slot, _ = strconv.ParseUint(name, 10, 64)
		}
		if slot > f.head {
			http.Error(w, `{"code":404,"message":"no such block"}`, http.StatusNotFound)
			return
		}
		r, ok := f.blocks[slot]
		if !ok {
			r = root(slot)
		}
		answer(w, headerJSON, r, true, slot)
	case strings.HasSuffix(path, "/validators") && r.Method == http.MethodPost:
		var q struct{ IDs []string }
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			http.Error(w, "bad", http.StatusBadRequest)
			return
		}
		f.answerValidators(w, q.IDs)
	case strings.HasSuffix(path, "/validators"):
		ids := r.URL.Query()["id"]
		if len(ids) > 64 {
			http.Error(w, "too many", http.StatusRequestURITooLong)
			return
		}
		f.answerValidators(w, ids)
	case path == "/eth/v1/config/spec":
		spec := map[string]any{"CONFIG_NAME": "hoodi", "CAPELLA_FORK_VERSION": f.net.ExitForkVersion.String(), "DENEB_FORK_EPOCH": "0",
			"SHARD_COMMITTEE_PERIOD": "256", "SLOTS_PER_EPOCH": "32", "SECONDS_PER_SLOT": "12", "BLOB_SCHEDULE": []any{map[string]string{"EPOCH": "1"}}}
		for name, value := range f.spec {
			if spec[name] = value; value == nil {
				delete(spec, name)
			}
		}
		data, _ := json.Marshal(spec)
		answer(w, `{"data":%s}`, data)
	case path == poolPath && r.Method == http.MethodPost:
		if f.refuse != "" {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			_ = json.NewEncoder(w).Encode(map[string]any{"code": 400, "message": f.refuse})
			return
		}
		body, _ := io.ReadAll(r.Body)
		f.mu.Lock()
		f.taken = append(f.taken, string(body))
		f.mu.Unlock()
	case path == poolPath:
		answer(w, `{"data":[%s]}`, strings.Join(f.taken, ","))
	case strings.HasSuffix(path, "/pending_deposits"):
		var rows []string
		for _, p := range f.pending {
			rows = append(rows, fmt.Sprintf(`{"pubkey":"%s","withdrawal_credentials":"%s","amount":"%d","signature":"%s","slot":"%d"}`,
				p.pubkey, p.Credentials, p.Amount, p.Signature, p.Slot))
		}
		answer(w, `{"version":"fulu","execution_optimistic":false,"finalized":false,"data":[%s]}`, strings.Join(rows, ","))
	default:
		http.NotFound(w, r)
	}
}

const headerJSON = `{"execution_optimistic":false,"finalized":false,"data":{"root":"%s","canonical":%t,"header":{"message":{"slot":"%d","proposer_index":"1"},"signature":"0x00"}}}`

func answer(w http.ResponseWriter, format string, args ...any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, _ = fmt.Fprintf(w, format, args...)
}

func (f *fake) answerValidators(w http.ResponseWriter, ids []string) {
	f.mu.Lock()
	f.ids = append(f.ids, len(ids))
	f.mu.Unlock()
	var rows []string
	for p, v := range f.validators {
		if slices.Contains(ids, p.String()) || slices.Contains(ids, strconv.FormatUint(v.Index, 10)) {
			row := validatorJSON(p, v)
			if l, ok := f.lives[p]; ok {
				row = epochs.ReplaceAllString(row, fmt.Sprintf(`"activation_epoch":"%d","exit_epoch":"%d","withdrawable_epoch":"%d"`, l[0], l[1], l[2]))
			}
			rows = append(rows, row)
		}
	}
	answer(w, `{"execution_optimistic":false,"finalized":false,"data":[%s]}`, strings.Join(rows, ","))
}

var epochs = regexp.MustCompile(`"activation_epoch":.*"withdrawable_epoch":"[0-9]+"`)

func validatorJSON(p eth.Pubkey, v deposit.Validator) string {
	return fmt.Sprintf(`{"index":"%d","balance":"%d","status":"%s","validator":{"pubkey":"%s","withdrawal_credentials":"%s","effective_balance":"32000000000","slashed":false,`+
		`"activation_eligibility_epoch":"0","activation_epoch":"0","exit_epoch":"18446744073709551615","withdrawable_epoch":"18446744073709551615"}}`,
		v.Index, v.Balance, v.Status, p, v.Credentials)
}
