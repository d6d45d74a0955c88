// Command linked seals and certifies through awskms as the generator does, for
// a test that looks at what the linker keeps of the KMS client.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/stakeseal/stakeseal/internal/aws/arn"
	"github.com/stakeseal/stakeseal/internal/aws/awskms"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/seal"
	"github.com/stakeseal/stakeseal/secret"
)

func main() {
	credentials, err := session.EnvironmentCredentials(os.Environ())
	if err != nil {
		fmt.Println(err)
		return
	}
	dial := awskms.Dial(credentials, session.Options{})
	ctx := context.Background()
	r, err := awskms.ParseRecipientFile([]byte(os.Args[1]), dial)
	if err != nil {
		fmt.Println(err)
		return
	}
	to, err := seal.NewRecipients(seal.Signing, seal.Named{Name: "a", Recipient: r})
	if err != nil {
		fmt.Println(err)
		return
	}
	file, err := to.Seal(ctx, seal.SigningBinding("hoodi", "a", 0, [48]byte{}), secret.Random(16))
	fmt.Println(len(file), err)
	key, err := arn.Key(os.Args[2])
	if err != nil {
		fmt.Println(err)
		return
	}
	c, err := awskms.NewCertifier(ctx, dial(key), key.String())
	if err != nil {
		fmt.Println(err)
		return
	}
	sig, err := c.Sign(ctx, []byte("x"))
	fmt.Println(len(sig), err)
}
