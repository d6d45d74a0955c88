package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/stakeseal/stakeseal/eth"
)

const (
	// intoBatch is how many keys a request has: each keystore takes the other
	// side up to a second, and some servers end a request after half a minute.
	intoBatch = 10
	intoWait  = 3 * time.Minute

	maxKeysAnswer = 64 << 20 // some 300 bytes a key
)

// What became of a key on its way into a keymanager API.
const (
	intoUnsent  = "not-sent"
	intoTaken   = "imported"
	intoHadIt   = "duplicate" // it was there already, and has its slashing protection now
	intoRefused = "refused"   // it says so, and does not list it
	intoUnclear = "unclear"   // it may have it
)

// beforeInto asks the keymanager API what it has, before anything moves: so a
// wrong URL, token or certificate costs nothing, and a key that is there
// already while it is still assigned here is found.
func (a *app) beforeInto(ctx context.Context, f handoverFlags, to *remote, list []*handed) error {
	there, err := to.keystores(ctx)
	if err != nil {
		return err
	}
	for _, k := range list {
		if there[k.validator.Pubkey] && k.assigned.Signer == f.signer {
			return fail(exitConflict, "find out which of the two signs for it; if it never signed there, delete it there first",
				"%s has %v already, which is assigned to %s: it may be signing beside it", to.url.Host, k.validator.Pubkey, f.signer)
		}
	}
	return nil
}

// handInto hands keys over in parts: a part's assignments move first, then it
// is sent. What was never sent stays where it is.
func (a *app) handInto(ctx context.Context, h *home, f handoverFlags, to *remote, list []*handed, root eth.Root) error {
	if err := a.confirmHandover(f, "to be sent to "+to.url.Host+", whose owner has the keys from then on", list); err != nil {
		return err
	}
	for _, k := range list {
		k.fate = intoUnsent
	}
	bar := a.progress(int64(len(list)), "handed over")
	var stopped error
	for part := range slices.Chunk(list, intoBatch) {
		if stopped = ctx.Err(); stopped != nil {
			break
		}
		// Not interrupted between the assignment and the answer: what was sent
		// is known of.
		if stopped = a.handPart(context.WithoutCancel(ctx), h, f, to, part, root); stopped != nil {
			break
		}
		bar.add(int64(len(part)))
	}
	bar.done()
	return errors.Join(a.reportInto(h, f, to, list), intoVerdict(a, h, f, to, list, stopped))
}

// handPart hands one part over. An error stops the hand-over; the keys' fates
// say what it came to.
func (a *app) handPart(ctx context.Context, h *home, f handoverFlags, to *remote, part []*handed, root eth.Root) error {
	for i, k := range part {
		if err := a.handOverOne(ctx, h, f, k); err != nil {
			// Those before it are assigned away, and were not sent. It may be
			// itself: by us without the note, or by another export.
			if held, reading := h.records.Assignment(ctx, k.validator.Pubkey); reading != nil || held.Signer == external+f.signer {
				k.fate = intoUnclear
			}
			return errors.Join(err, a.takeBack(ctx, h, f, part[:i]))
		}
		k.fate = intoUnclear
	}
	if err := a.fenced(ctx, h, f, part, root); err != nil { // and nothing was sent
		return errors.Join(err, a.takeBack(ctx, h, f, part))
	}
	interchange, err := newborn(part, root)
	if err != nil {
		return err
	}
	body, err := keymanagerBody(part, interchange)
	if err != nil {
		return err
	}
	defer body.Wipe()
	status, data, sending := to.ask(ctx, http.MethodPost, body.Expose(), 1<<20, "eth/v1/keystores")
	outcomes, err := intoOutcomes(status, data, sending, len(part))
	there, reading := to.keystores(ctx)
	if reading != nil { // nothing is believed that was not read back
		return errors.Join(err, fmt.Errorf("couldn't read back what %s has: %w", to.url.Host, reading))
	}
	var refused []*handed
	for i, k := range part {
		o := outcomes[i]
		listed := there[k.validator.Pubkey]
		k.message = o.shown(k)
		switch {
		case (o.Status == intoTaken || o.Status == intoHadIt) && listed:
			k.fate = o.Status
		case o.Status == "error" && !listed:
			refused = append(refused, k)
		}
	}
	err = errors.Join(err, a.takeBack(ctx, h, f, refused))
	if err == nil && slices.ContainsFunc(part, func(k *handed) bool { return k.fate == intoUnclear }) {
		err = fmt.Errorf("what %s says and what it lists differ", to.url.Host)
	}
	return err
}

// takeBack assigns keys that other software does not have to the signer that
// had them. Its ledger raises a floor for them, as for every key that was
// away. Keys that were away before this run stay there.
func (a *app) takeBack(ctx context.Context, h *home, f handoverFlags, list []*handed) error {
	for _, k := range list {
		if k.assigned.Signer != f.signer {
			continue
		}
		back := assigned{k.chosen, k.assigned.Epoch + 1}
		if err := a.assignOne(ctx, h, back, f.signer); err != nil {
			return fmt.Errorf("couldn't assign %v to %s again: %w", k.validator.Pubkey, f.signer, err)
		}
		k.fate = intoRefused
	}
	return nil
}

// intoOutcome is what the API says of one key.
type intoOutcome struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

// shown is the message, as far as it can be shown: a server that repeats the
// password in it is not quoted.
func (o intoOutcome) shown(k *handed) string {
	if k.password.Len() > 0 && strings.Contains(o.Message, string(k.password.Expose())) {
		return "(not shown: it holds the password)"
	}
	return clipTo(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, o.Message), 200)
}

// intoOutcomes reads the answer to an import. Where it tells nothing of the
// keys, all outcomes are empty, and the error says why; where the server says
// that it did not look at them, they are errors.
func intoOutcomes(status int, data []byte, sending error, n int) ([]intoOutcome, error) {
	all := make([]intoOutcome, n)
	if sending != nil {
		return all, fmt.Errorf("nobody knows whether the keys arrived: %w", sending)
	}
	switch status {
	case http.StatusOK:
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound,
		http.StatusMethodNotAllowed, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType:
		for i := range all {
			all[i].Status = "error"
		}
		return all, fmt.Errorf("the import was refused with HTTP status %d", status)
	default:
		return all, fmt.Errorf("the import was answered with HTTP status %d", status)
	}
	var a struct {
		Data []intoOutcome `json:"data"`
	}
	if err := json.Unmarshal(data, &a); err != nil || len(a.Data) != n {
		return all, fmt.Errorf("the answer is not one status for each of %d keys", n)
	}
	return a.Data, nil
}

// keystores is GET /eth/v1/keystores.
func (r *remote) keystores(ctx context.Context) (map[eth.Pubkey]bool, error) {
	status, data, err := r.ask(ctx, http.MethodGet, nil, maxKeysAnswer, "eth/v1/keystores")
	switch {
	case err != nil:
		return nil, fail(exitRemote, "is it running, and the URL right?", "couldn't ask the keymanager API: %w", err)
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return nil, fail(exitDenied, "--token FILE holds the keymanager API's token, and nothing else", "the keymanager API answers %d", status)
	case status != http.StatusOK:
		return nil, fail(exitRemote, "is that the URL of a keymanager API?", "the keymanager API answers %d", status)
	}
	var a struct {
		Data *[]struct {
			Pubkey *eth.Pubkey `json:"validating_pubkey"`
		} `json:"data"`
	}
	if err := json.Unmarshal(data, &a); err != nil || a.Data == nil {
		return nil, fail(exitRemote, "is that the URL of a keymanager API?", "the answer is no list of keystores")
	}
	there := map[eth.Pubkey]bool{}
	for _, k := range *a.Data {
		if k.Pubkey == nil {
			return nil, fail(exitRemote, "is that the URL of a keymanager API?", "the answer is no list of keystores")
		}
		there[*k.Pubkey] = true
	}
	return there, nil
}

// intoVerdict says what the hand-over came to, and how to go on.
func intoVerdict(a *app, h *home, f handoverFlags, to *remote, list []*handed, stopped error) error {
	count := map[string]int{}
	for _, k := range list {
		count[k.fate]++
	}
	taken := count[intoTaken] + count[intoHadIt]
	if taken == len(list) && stopped == nil {
		return nil
	}
	words := []string{fmt.Sprintf("%d of %d keys were handed over", taken, len(list))}
	var hints []string
	again := fmt.Sprintf("stakeseal keystore export%s --signer %s --into %s", a.homeWords(h), f.signer, f.into)
	if n := count[intoUnclear]; n > 0 {
		words = append(words, fmt.Sprintf("%d may be with %s, and stay assigned to %s%s", n, to.url.Host, external, f.signer))
		hints = append(hints, again+" --again ... sends those that may be there once more",
			"only if you are certain that nothing but stakeseal has them: stakeseal assign --to "+f.signer+" --back PUBKEY...")
	}
	if n := count[intoRefused]; n > 0 {
		words = append(words, fmt.Sprintf("%d it does not have, and are assigned to %s again", n, f.signer))
	}
	if n := count[intoUnsent]; n > 0 {
		words = append(words, fmt.Sprintf("%d were not sent, and are assigned as before", n))
	}
	if count[intoRefused]+count[intoUnsent] > 0 {
		hints = append(hints, again+" ... hands over what is left")
	}
	if errors.Is(stopped, context.Canceled) {
		return fail(exitInterrupted, strings.Join(hints, "\n"), "interrupted: %s", strings.Join(words, "; "))
	}
	if stopped != nil {
		return fail(exitRemote, strings.Join(hints, "\n"), "%s: %w", strings.Join(words, "; "), stopped)
	}
	return fail(exitRemote, strings.Join(hints, "\n"), "%s", strings.Join(words, "; "))
}

func (k *handed) nowAt(f handoverFlags) string {
	switch k.fate {
	case intoUnsent:
		return k.assigned.Signer
	case intoRefused:
		return f.signer
	}
	return external + f.signer
}

func (a *app) reportInto(h *home, f handoverFlags, to *remote, list []*handed) error {
	if a.json {
		type validator struct {
			Order   string     `json:"order"`
			Index   uint32     `json:"index"`
			Pubkey  eth.Pubkey `json:"pubkey"`
			Signer  string     `json:"assigned_to"`
			Fate    string     `json:"delivery"` // imported, duplicate, refused, unclear, not-sent
			Message string     `json:"message,omitempty"`
		}
		rows := []validator{}
		for _, k := range list {
			rows = append(rows, validator{k.validator.Order, k.validator.Index, k.validator.Pubkey, k.nowAt(f), k.fate, k.message})
		}
		return a.object(struct {
			Schema     string      `json:"schema"`
			Network    string      `json:"network"`
			Client     string      `json:"client"`
			Into       string      `json:"into"`
			Validators []validator `json:"validators"`
		}{"stakeseal/handover/v1", h.generator.Network.Name, f.client, to.url.Host, rows})
	}
	t := newTable(a.out, "ORDER", "INDEX", "PUBKEY", "DELIVERY", "ASSIGNED TO", "MESSAGE")
	for _, k := range list {
		t.row(k.validator.Order, fmt.Sprint(k.validator.Index), k.validator.Pubkey.String(), k.fate, k.nowAt(f), k.message)
	}
	return t.flush()
}
