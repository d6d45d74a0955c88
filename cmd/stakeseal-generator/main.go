// Command stakeseal-generator makes validator keys and seals them. It has
// settings, recipients and a certifying key, and nothing that opens what it
// seals: it must not reach anything that decrypts, see imports_test.go.
//
// It runs in two places. `stakeseal-generator child N` is started by the
// stakeseal command on the same machine, which serves it its records over an
// inherited descriptor. Without an argument it is the bootstrap of an AWS
// Lambda function (provided.al2023): settings from the signed package, records
// in DynamoDB and S3, sealing and certifying with KMS. What happens between
// is the same code; docs/formats/generator.md is the contract with either.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/stakeseal/stakeseal/internal/build"
	"github.com/stakeseal/stakeseal/internal/process"
)

func main() {
	var err error
	switch {
	case len(os.Args) == 2 && os.Args[1] == "--version":
		fmt.Println("stakeseal-generator", build.Version, build.Commit())
	case len(os.Args) == 1 && onLambda(os.Environ()):
		err = bootstrap() // has said what is wrong
	default:
		// From here on a crash of the runtime prints into nothing: it would
		// print stacks.
		var words *os.File
		if _, words, err = process.Quiet(); err == nil {
			err = run(os.Args[1:], os.Environ(), nil)
		}
		if err != nil && words != nil {
			fmt.Fprintln(words, "stakeseal-generator: error:", err)
		}
	}
	if err != nil {
		os.Exit(1)
	}
}

// errByHand says that nobody started the program who knows how.
var errByHand = errors.New("this program is started by stakeseal, not by hand; see stakeseal generate (on AWS, by Lambda)")
