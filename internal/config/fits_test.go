package config

import (
	"errors"
	"strings"
	"testing"
)

const (
	cloudTable = "arn:aws:dynamodb:us-east-1:111122223333:table/stakeseal-hoodi-records"
	cloudAlias = "lambda:arn:aws:lambda:us-east-1:111122223333:function:stakeseal-hoodi-generator:live"
	cloudKey   = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
)

// A maker and its stores are all here, or all in one region and account.
func TestFits(t *testing.T) {
	for name, c := range map[string]struct {
		generator, store, archive, certifier string
		says                                 string // "" for a home that fits
	}{
		"local":              {"local", "sqlite:records.db", "dir:bundles/", "file:certifier.key", ""},
		"cloud":              {cloudAlias, "dynamodb:" + cloudTable, "s3:arn:aws:s3:::stakeseal-archive", "awskms:" + cloudKey, ""},
		"maker here":         {"local", "dynamodb:" + cloudTable, "s3:arn:aws:s3:::stakeseal-archive", "awskms:" + cloudKey, "does not go with generator: local, which takes sqlite:"},
		"archive away":       {"local", "sqlite:records.db", "s3:arn:aws:s3:::stakeseal-archive", "file:certifier.key", "does not go with generator: local, which takes dir:"},
		"certifier away":     {"local", "sqlite:records.db", "dir:bundles/", "awskms:" + cloudKey, "does not go with generator: local, which takes file:"},
		"store here":         {cloudAlias, "sqlite:records.db", "s3:arn:aws:s3:::stakeseal-archive", "awskms:" + cloudKey, "does not go with a generator on Lambda, which takes dynamodb:"},
		"archive here":       {cloudAlias, "dynamodb:" + cloudTable, "dir:bundles/", "awskms:" + cloudKey, "does not go with a generator on Lambda, which takes s3:"},
		"certifier here":     {cloudAlias, "dynamodb:" + cloudTable, "s3:arn:aws:s3:::stakeseal-archive", "file:certifier.key", "does not go with a generator on Lambda, which takes awskms:"},
		"no table":           {cloudAlias, "dynamodb:records", "s3:arn:aws:s3:::stakeseal-archive", "awskms:" + cloudKey, "store:"},
		"no bucket":          {cloudAlias, "dynamodb:" + cloudTable, "s3:archive", "awskms:" + cloudKey, "archive:"},
		"an alias as key":    {cloudAlias, "dynamodb:" + cloudTable, "s3:arn:aws:s3:::stakeseal-archive", "awskms:arn:aws:kms:us-east-1:111122223333:alias/x", "certifier:"},
		"maker's region":     {strings.Replace(cloudAlias, "us-east-1", "eu-west-1", 1), "dynamodb:" + cloudTable, "s3:arn:aws:s3:::stakeseal-archive", "awskms:" + cloudKey, "the generator is in eu-west-1, account 111122223333"},
		"maker's account":    {strings.Replace(cloudAlias, "111122223333", "444455556666", 1), "dynamodb:" + cloudTable, "s3:arn:aws:s3:::stakeseal-archive", "awskms:" + cloudKey, "account 444455556666, and the store in us-east-1, account 111122223333"},
		"certifier's region": {cloudAlias, "dynamodb:" + cloudTable, "s3:arn:aws:s3:::stakeseal-archive", "awskms:" + strings.Replace(cloudKey, "us-east-1", "eu-west-1", 1), "the certifier is in eu-west-1"},
		"other partition":    {strings.NewReplacer("arn:aws:", "arn:aws-cn:", "us-east-1", "cn-north-1").Replace(cloudAlias), "dynamodb:" + cloudTable, "s3:arn:aws:s3:::stakeseal-archive", "awskms:" + cloudKey, "the generator is in cn-north-1"},
	} {
		ref := func(text string) Ref {
			scheme, rest, _ := strings.Cut(text, ":")
			return Ref{scheme, rest}
		}
		h := &Home{Generator: c.generator}
		if err := h.check(1); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		err := h.Fits(&Generator{Store: ref(c.store), Archive: ref(c.archive), Certifier: ref(c.certifier)})
		if c.says == "" && err != nil || c.says != "" && (!errors.Is(err, ErrSettings) || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
