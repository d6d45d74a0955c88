package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/bls"
	"github.com/stakeseal/stakeseal/eth/duty"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/secret"
	"github.com/stakeseal/stakeseal/signer"
)

func (a *app) exitVerb() *cobra.Command {
	cmd := &cobra.Command{Use: "exit", Short: "Sign voluntary exits", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(a.exitSignVerb())
	return cmd
}

type exitFlags struct {
	url   string
	token string
	ca    string
	out   string
	root  string
	epoch uint64
	given bool // epoch was
}

func (a *app) exitSignVerb() *cobra.Command {
	var f exitFlags
	cmd := &cobra.Command{
		Use:   "sign --signer-url URL --token FILE --out DIR PUBKEY=INDEX...",
		Short: "Have voluntary exits signed by a running signer",
		Long: `Have a voluntary exit of each validator signed by the signer that serves it, verify
the signature, and write it as a file that beacon nodes take (POST
/eth/v1/beacon/pool/voluntary_exits). INDEX is the validator's index on the chain.

Whoever has such a file can end the validator, at any later time: exits are signed
under the Capella fork version for ever (EIP-7044). The client that the token stands
for must have been granted VOLUNTARY_EXIT in the signer's settings.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.given = cmd.Flags().Changed("epoch")
			return a.exitSign(cmd.Context(), f, args)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.url, "signer-url", "http://"+defaultListen, "the signer's `URL`")
	flags.StringVar(&f.token, "token", "", "the `FILE` with the token of a client that may have exits signed")
	flags.StringVar(&f.ca, "ca", "", "the `FILE` with the certificate of the signer, or of who signed it (PEM)")
	flags.StringVarP(&f.out, "out", "o", "", "the `DIR` for the files; it must exist")
	flags.Uint64Var(&f.epoch, "epoch", 0, "valid from `EPOCH` on (default: the current one)")
	flags.StringVar(&f.root, "genesis-validators-root", "", "the `ROOT` of a network whose root is not known here (ephemery, custom ones)")
	return cmd
}

// exiting is a validator that shall exit.
type exiting struct {
	chosen
	index uint64 // on the chain
}

func (a *app) exitSign(ctx context.Context, f exitFlags, args []string) error {
	if f.out == "" {
		return usage("for example --out exits", "--out is missing")
	}
	if err := a.canConfirm(); err != nil {
		return err
	}
	ask, err := newSignerClient(f)
	if err != nil {
		return err
	}
	defer ask.token.Wipe()
	h, err := a.openHome(ctx)
	if err != nil {
		return err
	}
	defer h.close()
	network := h.generator.Network
	if network.GenesisValidatorsRoot, err = genesisRoot(network, f.root); err != nil {
		return err
	}
	network.HasGenesisValidatorsRoot = true
	if !f.given {
		var known bool
		if f.epoch, known = signer.EpochAt(network, a.now().Unix()); !known {
			return usage("a node of the network tells: give it with --epoch", "the current epoch of %s is not known here", network.Name)
		}
	}
	list, err := h.exiting(ctx, args)
	if err != nil {
		return err
	}
	t := newTable(a.err, "INDEX", "PUBKEY", "WITHDRAWS TO")
	for _, v := range list {
		to := "not known"
		if address, ok := v.Credentials.Address(); ok {
			to = address.String()
		}
		t.row(fmt.Sprint(v.index), v.Pubkey.String(), to)
	}
	if err := t.flush(); err != nil {
		return err
	}
	if err := a.confirm(fmt.Sprintf("Sign exits of these %d validators on %s? An exit cannot be taken back.", len(list), network.Name)); err != nil {
		return err
	}
	for _, v := range list {
		if err := a.exitOne(ctx, h, network, ask, f, v); err != nil {
			return fmt.Errorf("the exit of %v: %w", v.Pubkey, err)
		}
	}
	a.say("%d exits are signed; whoever has the files in %s can end these validators", len(list), f.out)
	return nil
}

// exiting reads PUBKEY=INDEX.
func (h *home) exiting(ctx context.Context, args []string) ([]exiting, error) {
	var list []exiting
	indexes := map[uint64]bool{}
	for _, arg := range args {
		word, number, ok := strings.Cut(arg, "=")
		index, err := strconv.ParseUint(number, 10, 64)
		if !ok || err != nil {
			return nil, usage("PUBKEY=INDEX, the index that a node shows for the validator", "%q has no index", short(arg))
		}
		if indexes[index] {
			return nil, usage("each validator has an index of its own", "index %d is given twice", index)
		}
		indexes[index] = true
		s := selection{words: []string{word}, foreign: true}
		for c, err := range h.validators(ctx, &s) {
			if err != nil {
				return nil, err
			}
			list = append(list, exiting{c, index})
		}
	}
	return list, nil
}

// exitOne has one exit signed, believes nothing of the answer, and writes it.
func (a *app) exitOne(ctx context.Context, h *home, network eth.Network, ask *signerClient, f exitFlags, v exiting) error {
	type exit struct {
		Epoch string `json:"epoch"`
		Index string `json:"validator_index"`
	}
	message := exit{fmt.Sprint(f.epoch), fmt.Sprint(v.index)}
	version := network.ExitForkVersion.String()
	body, err := json.Marshal(map[string]any{
		"type": duty.VoluntaryExit, "voluntary_exit": message,
		"fork_info": map[string]any{
			"fork":                    map[string]string{"previous_version": version, "current_version": version, "epoch": "0"},
			"genesis_validators_root": network.GenesisValidatorsRoot,
		},
	})
	if err != nil {
		return err
	}
	request, err := duty.Parse(body)
	if err != nil {
		return err
	}
	root, err := request.SigningRoot(network)
	if err != nil {
		return err
	}
	signature, err := ask.sign(ctx, v.Pubkey, body)
	if err != nil {
		return err
	}
	if !bls.Verify(bls.Claim{Pubkey: v.Pubkey, Root: root, Signature: signature}) {
		return fail(exitRefused, "is the URL that of the signer?", "what the signer answered is not its signature")
	}
	// Noted before it is written: a file that exists is one that is known of.
	err = h.note(ctx, record.Event{Time: record.Time(a.now()), Kind: "exit-signed", Order: v.Order, Pubkey: v.Pubkey,
		Detail: map[string]string{"epoch": message.Epoch, "validator_index": message.Index}})
	if err != nil {
		return err
	}
	data, err := json.Marshal(struct {
		Message   exit          `json:"message"`
		Signature eth.Signature `json:"signature"`
	}{message, signature})
	if err != nil {
		return err
	}
	path := filepath.Join(f.out, "exit-"+message.Index+"-"+v.Pubkey.Hex()[:12]+".json")
	if err := writeNew(path, append(data, '\n'), 0o600); err != nil {
		return err
	}
	if !a.json {
		return nil
	}
	return a.object(struct {
		Schema string     `json:"schema"`
		Pubkey eth.Pubkey `json:"pubkey"`
		Index  uint64     `json:"validator_index"`
		Epoch  uint64     `json:"epoch"`
		File   string     `json:"file"`
	}{"stakeseal/exit/v1", v.Pubkey, v.index, f.epoch, path})
}

// signerClient asks a running signer.
type signerClient struct {
	url   *url.URL
	token *secret.Bytes
	http  *http.Client
}

func newSignerClient(f exitFlags) (*signerClient, error) {
	u, err := url.Parse(f.url)
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, usage("such as http://127.0.0.1:9000", "--signer-url is no http:// or https:// URL")
	}
	c := &signerClient{url: u, http: &http.Client{
		Timeout:       30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("it leads elsewhere") },
	}}
	config := &tls.Config{MinVersion: tls.VersionTLS13}
	if f.ca != "" {
		data, err := readBounded(f.ca, 1<<20)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(data) {
			return nil, usage("", "%s holds no certificate (PEM)", f.ca)
		}
	}
	c.http.Transport = &http.Transport{TLSClientConfig: config} // and no proxy
	if f.token == "" {
		return c, nil
	}
	if ip := net.ParseIP(u.Hostname()); u.Scheme == "http" && u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, usage("use https://", "a token would go to %s in the clear", u.Host)
	}
	if c.token, err = readToken(f.token); err != nil {
		return nil, err
	}
	return c, nil
}

// sign returns the signature that the signer answers.
func (c *signerClient) sign(ctx context.Context, pubkey eth.Pubkey, body []byte) (s eth.Signature, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url.JoinPath("api/v1/eth2/sign", pubkey.String()).String(), bytes.NewReader(body))
	if err != nil {
		return s, err
	}
	r.Header.Set("Content-Type", "application/json")
	if c.token != nil {
		r.Header.Set("Authorization", "Bearer "+string(c.token.Expose()))
	}
	answer, err := c.http.Do(r)
	if err != nil {
		return s, fail(exitRemote, "is the signer running, and the URL right?", "couldn't ask the signer: %w", err)
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(io.LimitReader(answer.Body, 4096))
	if err != nil {
		return s, fail(exitRemote, "", "couldn't read the signer's answer: %w", err)
	}
	text := strings.TrimSpace(string(data))
	switch answer.StatusCode {
	case http.StatusOK:
		if err := s.UnmarshalText([]byte(text)); err != nil {
			return s, fail(exitRemote, "is the URL that of the signer?", "the signer's answer: %w", err)
		}
		return s, nil
	case http.StatusUnauthorized, http.StatusForbidden:
		return s, fail(exitDenied, "signers/NAME.yaml grants it: operations: [VOLUNTARY_EXIT]", "the signer refuses: %q", text)
	case http.StatusNotFound:
		return s, fail(exitDenied, "stakeseal list shows who it is assigned to", "the signer does not serve the key: %q", text)
	}
	return s, fail(exitRemote, "", "the signer answers %s: %q", answer.Status, text)
}
