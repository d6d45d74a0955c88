package deposit

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
)

// CLIVersion is what our files carry as deposit_cli_version. To its readers
// the field is a version of the Ethereum Foundation's deposit CLI, whoever
// wrote the file: launchpads have demanded it and compared it with a minimum.
// Our own version would be taken for one of the CLI's first releases there.
// 2.7.0 is above every minimum we know of, and is what charon and ssv-dkg
// write for the same reason; it makes no claim about who wrote the file.
const CLIVersion = "2.7.0"

// WriteFile writes a launchpad deposit_data file: the fields in the order of
// the deposit CLI, bare lower-case hex, separators as python's json writes
// them, one entry a line. The same entries always give the same bytes. An
// entry without CLIVersion gets ours; one without a network name is refused,
// as is a list without an entry. It does not judge.
func WriteFile(w io.Writer, entries []Entry) error {
	if len(entries) == 0 {
		return fmt.Errorf("couldn't write deposit data: %w: no entries", ErrFormat)
	}
	for i := range entries {
		if e := &entries[i]; e.NetworkName == "" || len(e.NetworkName) > maxNameBytes || len(e.CLIVersion) > maxNameBytes {
			return fmt.Errorf("couldn't write deposit data: %w: entry %d: network name %s", ErrFormat, i+1, quote(e.NetworkName))
		}
	}
	out := bufio.NewWriter(w)
	for i := range entries {
		e := &entries[i]
		lead := ",\n"
		if i == 0 {
			lead = "["
		}
		version := e.CLIVersion
		if version == "" {
			version = CLIVersion
		}
		// An error of the writer stays in it until Flush.
		_, _ = fmt.Fprintf(out, `%s{"pubkey": "%s", "withdrawal_credentials": "%s", "amount": %d, "signature": "%s", `+
			`"deposit_message_root": "%s", "deposit_data_root": "%s", "fork_version": "%s", "network_name": %s, "deposit_cli_version": %s}`,
			lead, e.Pubkey.Hex(), e.Credentials.Hex(), uint64(e.Amount), e.Signature.Hex(),
			e.MessageRoot.Hex(), e.DataRoot.Hex(), e.ForkVersion.Hex(), jsonString(e.NetworkName), jsonString(version))
	}
	_, _ = out.WriteString("]\n")
	if err := out.Flush(); err != nil {
		return fmt.Errorf("couldn't write deposit data: %w", err)
	}
	return nil
}

func jsonString(s string) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		panic("deposit: a string always marshals: " + err.Error())
	}
	return b
}
