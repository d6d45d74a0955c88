package main

import (
	"context"
	"fmt"
	"strings"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"github.com/stakeseal/stakeseal/internal/identity"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/seal"
	"github.com/stakeseal/stakeseal/secret"
	"github.com/stakeseal/stakeseal/unseal"
)

// identityFlags say with what a command opens.
type identityFlags struct {
	files   []string
	plugins []string
}

func (f *identityFlags) add(cmd *cobra.Command, what string) {
	cmd.Flags().StringArrayVarP(&f.files, "identity", "i", nil, "the identity `FILE` of "+what+"; a KMS key: awskms:ARN")
	cmd.Flags().StringArrayVar(&f.plugins, "plugin", nil, "the absolute `PATH` of the age plugin that an identity on a hardware key needs")
}

// key is one identity that a command opens with. public is the recipient it
// belongs to, "" where only its device knows.
type key struct {
	public string
	text   string // for messages
	opener *unseal.Opener
}

// keys loads the identities, asking for the passphrase of an encrypted file. h
// is nil where there is no home.
func (a *app) keys(ctx context.Context, h *home, f identityFlags) ([]key, error) {
	if len(f.files) == 0 {
		return nil, usage("the private half, as stakeseal identity new wrote it: --identity FILE; or a KMS key: --identity awskms:KEY-ARN", "--identity is missing")
	}
	var options []identity.Option
	for _, program := range f.plugins {
		options = append(options, identity.WithPlugin(a.plugin(program)))
	}
	var list []key
	for _, file := range f.files {
		if texts, ok, err := kmsLines(file); err != nil {
			return nil, err
		} else if ok {
			keys, err := a.kmsKeys(ctx, h, texts)
			if err != nil {
				return nil, err
			}
			list = append(list, keys...)
			continue
		}
		ids, err := identity.Load(file, a.askFor, options...)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			list = append(list, key{public: publicHalf(id), text: id.String(), opener: unseal.NewOpener(id)})
		}
	}
	return list, nil
}

func (a *app) askFor(prompt string) (*secret.Bytes, error) {
	return a.ask(strings.TrimRight(prompt, ": "))
}

// plugin is how a plugin talks to whoever is at the terminal. Its questions
// are its own, such as whether to use up a device's last try: --yes, which was
// given for ours, does not answer them.
func (a *app) plugin(program string) identity.Plugin {
	return identity.Plugin{
		Program: program,
		Ask:     a.askFor,
		Say:     func(message string) { a.say("%s", message) },
		Confirm: func(message, yes, no string) (bool, error) {
			if no == "" {
				no = "stop"
			}
			return a.answer(fmt.Sprintf("%s (y: %s, n: %s)", message, yes, no))
		},
	}
}

// publicHalf is the recipient of an identity that this program holds itself.
func publicHalf(id unseal.Identity) string {
	switch k := id.Bind(context.Background(), seal.Binding{}).(type) {
	case *age.HybridIdentity:
		return k.Recipient().String()
	case *age.X25519Identity:
		return k.Recipient().String()
	}
	return ""
}

// recipient is the name under which a sealing lists a key.
func (k key) recipient(list []record.Recipient) (name string, ok bool) {
	for _, r := range list {
		if k.public != "" && r.Key == k.public {
			return r.Name, true
		}
	}
	return "", false
}

func recipientNames(list []record.Recipient) string {
	var names []string
	for _, r := range list {
		names = append(names, r.Name)
	}
	return strings.Join(names, ", ")
}

// canConfirm fails before any work where confirm would fail after it.
func (a *app) canConfirm() error {
	if a.yes || a.terminal {
		return nil
	}
	return a.confirm("")
}
