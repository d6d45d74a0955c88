package seal_test

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/stakeseal/stakeseal/seal"
)

func TestBindingCheck(t *testing.T) {
	if err := signing.Check(); err != nil {
		t.Fatal(err)
	}
	if err := recovery.Check(); err != nil {
		t.Fatal(err)
	}
	change := func(b seal.Binding, f func(*seal.Binding)) seal.Binding {
		f(&b)
		return b
	}
	good := map[string]seal.Binding{
		"longest names": change(signing, func(b *seal.Binding) {
			b.Network, b.Order = "a"+strings.Repeat("_", 31), "0"+strings.Repeat(".", 63)
		}),
		"largest index": change(signing, func(b *seal.Binding) { b.Index = "2147483647" }),
		"index zero":    change(signing, func(b *seal.Binding) { b.Index = "0" }),
	}
	for name, b := range good {
		if err := b.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, b := range map[string]seal.Binding{
		"zero":                   {},
		"purpose":                change(signing, func(b *seal.Binding) { b.Purpose = "backup" }),
		"purpose in upper case":  change(signing, func(b *seal.Binding) { b.Purpose = "Signing" }),
		"no network":             change(signing, func(b *seal.Binding) { b.Network = "" }),
		"long network":           change(signing, func(b *seal.Binding) { b.Network = strings.Repeat("a", 33) }),
		"network in upper case":  change(signing, func(b *seal.Binding) { b.Network = "Hoodi" }),
		"network with dot":       change(signing, func(b *seal.Binding) { b.Network = "a.b" }),
		"network with dash":      change(signing, func(b *seal.Binding) { b.Network = "-a" }),
		"network of two lines":   change(signing, func(b *seal.Binding) { b.Network = "hoodi\norder: x" }),
		"network and line feed":  change(signing, func(b *seal.Binding) { b.Network = "hoodi\n" }),
		"no order":               change(signing, func(b *seal.Binding) { b.Order = "" }),
		"long order":             change(signing, func(b *seal.Binding) { b.Order = strings.Repeat("a", 65) }),
		"order with space":       change(signing, func(b *seal.Binding) { b.Order = "a b" }),
		"order with slash":       change(signing, func(b *seal.Binding) { b.Order = "a/b" }),
		"order of dots":          change(signing, func(b *seal.Binding) { b.Order = ".." }),
		"order with umlaut":      change(signing, func(b *seal.Binding) { b.Order = "ä" }),
		"order with NUL":         change(signing, func(b *seal.Binding) { b.Order = "a\x00" }),
		"order with return":      change(signing, func(b *seal.Binding) { b.Order = "a\r" }),
		"no index":               change(signing, func(b *seal.Binding) { b.Index = "" }),
		"index 03":               change(signing, func(b *seal.Binding) { b.Index = "03" }),
		"index +3":               change(signing, func(b *seal.Binding) { b.Index = "+3" }),
		"index -1":               change(signing, func(b *seal.Binding) { b.Index = "-1" }),
		"index 0x3":              change(signing, func(b *seal.Binding) { b.Index = "0x3" }),
		"index 3.0":              change(signing, func(b *seal.Binding) { b.Index = "3.0" }),
		"index in Arabic digits": change(signing, func(b *seal.Binding) { b.Index = "٣" }),
		"index 2^31":             change(signing, func(b *seal.Binding) { b.Index = "2147483648" }),
		"index 2^32+3":           change(signing, func(b *seal.Binding) { b.Index = "4294967299" }),
		"no pubkey":              change(signing, func(b *seal.Binding) { b.Subject = "" }),
		"pubkey with 0x":         change(signing, func(b *seal.Binding) { b.Subject = "0x" + b.Subject }),
		"pubkey in upper case":   change(signing, func(b *seal.Binding) { b.Subject = strings.ToUpper(b.Subject) }),
		"short pubkey":           change(signing, func(b *seal.Binding) { b.Subject = b.Subject[2:] }),
		"pubkey and line feed":   change(signing, func(b *seal.Binding) { b.Subject += "\n" }),
		"mnemonic for signing":   change(signing, func(b *seal.Binding) { b.Subject = recovery.Subject }),
		"recovery with index":    change(recovery, func(b *seal.Binding) { b.Index = "0" }),
		"recovery of a pubkey":   change(recovery, func(b *seal.Binding) { b.Subject = signing.Subject }),
		"mnemonic without m-":    change(recovery, func(b *seal.Binding) { b.Subject = b.Subject[2:] }),
		"long mnemonic id":       change(recovery, func(b *seal.Binding) { b.Subject += "0" }),
		"mnemonic id upper case": change(recovery, func(b *seal.Binding) { b.Subject = "m-0123456789ABCDEF" }),
	} {
		err := b.Check()
		if !errors.Is(err, seal.ErrBinding) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(b.Subject) > 16 && strings.Contains(err.Error(), b.Subject[:16]) {
			t.Errorf("%s: the error shows the subject", name)
		}
		if h, err := b.Header(); h != "" || !errors.Is(err, seal.ErrBinding) {
			t.Errorf("%s: header %q, %v", name, h, err)
		}
	}
}

func TestContext(t *testing.T) {
	if got, want := signing.Context(), map[string]string{
		"app": "stakeseal", "v": "1", "purpose": "signing", "network": "hoodi", "order": "order-1",
		"index": "3", "pubkey": signing.Subject,
	}; !maps.Equal(got, want) {
		t.Errorf("signing: %v", got)
	}
	if got, want := recovery.Context(), map[string]string{
		"app": "stakeseal", "v": "1", "purpose": "recovery", "network": "hoodi", "order": "order-1",
		"mnemonic": "m-0123456789abcdef",
	}; !maps.Equal(got, want) {
		t.Errorf("recovery: %v", got)
	}
}
