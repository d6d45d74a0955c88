package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/stakeseal/stakeseal/internal/identity"
	"github.com/stakeseal/stakeseal/secret"
)

func (a *app) identityVerb() *cobra.Command {
	cmd := &cobra.Command{Use: "identity", Short: "Make the keys that secrets are sealed to", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	var out string
	var classic, passphrase bool
	fresh := &cobra.Command{
		Use:   "new --out FILE",
		Short: "Make an identity where it will live, and print its recipient",
		Long: `Make an identity (the private half, kept in FILE) and print its recipient (the
public half) on stdout. Run it on the machine or medium where the identity will
live; only the recipient travels:

    stakeseal identity new --out /media/usb/anna.identity > anna.txt
    stakeseal init ... --recovery anna=anna.txt

FILE is an age identity file: age -d -i FILE opens what is sealed to it, with
or without stakeseal. Identities are post-quantum (age 1.3 and later) unless
--classic is given; recipients of one list must all be of one kind.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if out == "" {
				return usage("name the file: --out anna.identity", "--out is missing")
			}
			kind := identity.PostQuantum
			if classic {
				kind = identity.Classic
			}
			return a.newIdentity(out, kind, passphrase)
		},
	}
	fresh.Flags().StringVarP(&out, "out", "o", "", "the `FILE` for the identity; it must not exist")
	fresh.Flags().BoolVar(&classic, "classic", false, "X25519 instead of post-quantum: for age before 1.3, or beside hardware keys that are classic")
	fresh.Flags().BoolVarP(&passphrase, "passphrase", "p", false, "encrypt the file with a passphrase (asked for)")
	cmd.AddCommand(fresh)
	return cmd
}

func (a *app) newIdentity(path string, kind identity.Kind, locked bool) error {
	var passphrase *secret.Bytes
	if locked {
		var err error
		if passphrase, err = a.askTwice(); err != nil {
			return err
		}
		defer passphrase.Wipe()
	}
	recipient, file := identity.New(kind)
	defer file.Wipe()
	if err := identity.WriteNew(path, file, passphrase); err != nil {
		return err
	}
	a.say("the identity is in %s: keep it, and a copy of it, where only its owner gets at them", path)
	if a.json {
		return a.object(struct {
			Schema    string `json:"schema"`
			Recipient string `json:"recipient"`
			Identity  string `json:"identity"`
		}{"stakeseal/identity/v1", recipient, path})
	}
	_, err := fmt.Fprintln(a.out, recipient)
	return err
}

func (a *app) askTwice() (*secret.Bytes, error) {
	first, err := a.ask("passphrase")
	if err != nil {
		return nil, err
	}
	second, err := a.ask("the same again")
	if err != nil {
		first.Wipe()
		return nil, err
	}
	defer second.Wipe()
	if first.Len() == 0 || !first.Equal(second) {
		first.Wipe()
		return nil, usage("", "the passphrase is empty, or the two differ")
	}
	return first, nil
}
