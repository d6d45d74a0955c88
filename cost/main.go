// Command cost measures what an order and signing cost on AWS: it has the released
// bootstrap fill orders in a simulation of the services, takes the billed
// durations and counts every request and every byte of an item, and multiplies
// them with a dated list of prices. It is run by make cost.
//
// Durations are of this machine, with the simulation on the same processors:
// an account's are shorter by the simulation's work and longer by the network.
// Requests and bytes are exact. Beside them stand the same figures for the
// design that people start from, the AWS sample for validator keys: two key
// derivations with scrypt for each key (it opens each keystore again), one
// request to KMS, one item, at most nine keys a call, and an interface endpoint
// that never sleeps.
package main

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/scrypt"

	"github.com/stakeseal/stakeseal/internal/aws/awstest/stage"
	"github.com/stakeseal/stakeseal/internal/aws/awstest/world"
)

func main() {
	os.Exit(world.Run(func() int {
		if err := measure(); err != nil {
			fmt.Fprintln(os.Stderr, "cost: error:", err)
			return 1
		}
		return 0
	}))
}

const (
	memoryMB = 2 * vCPU // as many processors as the function has here
	starts   = 7
)

// account is the installation that is measured.
type account struct {
	*stage.Stage
	programs, home string
	zipBytes       int64
}

func measure() (err error) {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "stakeseal-cost-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	on, err := stage.Open(dir)
	if err != nil {
		return err
	}
	defer func() {
		if e := on.Close(); err == nil {
			err = e
		}
	}()
	a := &account{Stage: on, programs: filepath.Dir(self), home: filepath.Join(dir, "home")}
	if err := a.build(); err != nil {
		return err
	}
	begun, err := a.start()
	if err != nil {
		return err
	}
	pbkdf2Bill, err := a.order("pbkdf2", 128)
	if err != nil {
		return err
	}
	scryptBill, err := a.order("scrypt", 12)
	if err != nil {
		return err
	}
	signed, err := a.signing()
	if err != nil {
		return err
	}
	sample, err := sampleBill()
	if err != nil {
		return err
	}
	alone, err := pbkdf2Alone()
	if err != nil {
		return err
	}
	a.report(begun, alone, pbkdf2Bill, scryptBill, sample)
	signed.report()
	return nil
}

// build puts the stacks up and deploys this tree's generator.
func (a *account) build() error {
	if err := a.Deploy(nil); err != nil {
		return err
	}
	args, err := a.Init()
	if err != nil {
		return err
	}
	if err := a.stakeseal("depositor", args...); err != nil {
		return err
	}
	zip := filepath.Join(a.Dir, "package.zip")
	if err := a.stakeseal("", "release", "build", "--settings", a.home, "--arch", "x86_64", "--tree", "--out", zip); err != nil {
		return err
	}
	info, err := os.Stat(zip)
	if err != nil {
		return err
	}
	a.zipBytes = info.Size()
	if err := a.World.Install(zip); err != nil {
		return err
	}
	if err := a.World.Configure(map[string]string{}, memoryMB, 900*time.Second, 0); err != nil {
		return err
	}
	_, err = a.World.Publish()
	return err
}

// stakeseal runs the command as a role.
func (a *account) stakeseal(role string, args ...string) error {
	cmd := exec.Command(filepath.Join(a.programs, "stakeseal"), append([]string{"--home", a.home}, args...)...)
	if role != "" {
		cmd.Env = a.Environ(role)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("stakeseal %s: %w\n%s", args[0], err, out)
	}
	return nil
}

// start is the shortest of some cold starts: what lengthens one is the machine.
func (a *account) start() (shortest time.Duration, err error) {
	for i := range starts {
		a.World.Chill()
		if err := a.stakeseal("requester", "generate", "--count", "1", "--keystore", "none", "--order", fmt.Sprintf("start-%d", i), "--yes"); err != nil {
			return 0, err
		}
		for _, run := range a.World.Invocations() {
			if run.Cold && (shortest == 0 || run.Init < shortest) {
				shortest = run.Init
			}
		}
	}
	return shortest, nil
}

// bill is what an order used.
type bill struct {
	keys             int
	calls            int
	gbSeconds        float64
	symmetric, asymm int
	writes, reads    int // units
	puts, gets       int
	logBytes         int
	tableBytes       int
	bucketBytes      int
	peak             int64
}

func (a *account) order(kdf string, keys int) (bill, error) {
	calls, events, logs := len(a.World.Invocations()), len(a.World.Trail()), len(a.World.Logs())
	tables, buckets := len(a.World.Tables.Dump()), len(a.World.Buckets.Dump())
	a.World.Chill() // its cold start is part of the bill
	if err := a.stakeseal("requester", "generate", "--count", fmt.Sprint(keys), "--keystore", kdf, "--order", "cost-"+kdf, "--yes"); err != nil {
		return bill{}, err
	}
	b := bill{keys: keys, logBytes: len(a.World.Logs()) - logs, tableBytes: len(a.World.Tables.Dump()) - tables, bucketBytes: len(a.World.Buckets.Dump()) - buckets}
	for _, run := range a.World.Invocations()[calls:] {
		b.calls++
		b.gbSeconds += run.Billed.Seconds() * float64(run.MemoryMB) / 1024
		b.peak = max(b.peak, run.Peak)
	}
	for _, e := range a.World.Trail()[events:] {
		switch e.Service + " " + e.Action {
		case "kms Encrypt":
			b.symmetric++
		case "kms Sign", "kms GetPublicKey":
			b.asymm++
		case "dynamodb PutItem":
			b.writes += units(e.Bytes, 1<<10)
		case "dynamodb GetItem", "dynamodb Query":
			b.reads += units(e.Bytes, 4<<10)
		case "s3 PutObject":
			b.puts++
		case "s3 GetObject":
			b.gets++
		}
	}
	return b, nil
}

func units(n, size int) int { return max(1, (n+size-1)/size) }

// dollars are the parts of a bill for a thousand keys.
type dollars struct{ lambda, kms, table, bucket, logs float64 }

func (d dollars) sum() float64 { return d.lambda + d.kms + d.table + d.bucket + d.logs }

func (b bill) perThousand(gbSecond float64) dollars {
	k := 1000 / float64(b.keys)
	return dollars{
		lambda: k * (b.gbSeconds*gbSecond + float64(b.calls)*lambdaRequest),
		kms:    k * (float64(b.symmetric)*kmsSymmetric + float64(b.asymm)*kmsAsymmetric),
		table:  k * (float64(b.writes)*tableWrite + float64(b.reads)*tableRead),
		bucket: k * (float64(b.puts)*bucketPut + float64(b.gets)*bucketGet),
		logs:   k * float64(b.logBytes) / 1e9 * logGB,
	}
}

// sampleBill is the sample's design with the fastest KDF that is measured here:
// what its Python costs beside, and its cold starts, are left out.
func sampleBill() (bill, error) {
	var salt [32]byte
	begun := time.Now()
	if _, err := scrypt.Key([]byte("password"), salt[:], 262144, 8, 1, 32); err != nil {
		return bill{}, err
	}
	one := time.Since(begun)
	const keys, perCall = 900, 9
	const items = 3 // KB: keystore, password and mnemonic under KMS, deposit data, in base64
	return bill{keys: keys, calls: keys / perCall, gbSeconds: 2 * keys * one.Seconds() * vCPU / 1024, symmetric: keys, writes: items * keys}, nil
}

// pbkdf2Alone is one derivation, as the limit that no order passes.
func pbkdf2Alone() (time.Duration, error) {
	begun := time.Now()
	_, err := pbkdf2.Key(sha256.New, "password", make([]byte, 32), 262144, 32)
	return time.Since(begun), err
}

func (a *account) report(begun, alone time.Duration, p, s, sample bill) {
	fmt.Printf("Prices of us-east-1 of %s, in dollars, no free tier. One order of %d (pbkdf2) and one of %d (scrypt), %d MB.\n\n",
		priced.Format(time.DateOnly), p.keys, s.keys, memoryMB)
	fmt.Printf("%-44s %9s %9s %9s %9s %9s %9s\n", "for 1,000 keys", "Lambda", "KMS", "DynamoDB", "S3", "logs", "all")
	row := func(what string, d dollars) {
		fmt.Printf("%-44s %9.4f %9.4f %9.4f %9.4f %9.4f %9.4f\n", what, d.lambda, d.kms, d.table, d.bucket, d.logs, d.sum())
	}
	row("pbkdf2 (x86-64)", p.perThousand(lambdaX86))
	row("pbkdf2 (arm64, if it took as long)", p.perThousand(lambdaARM))
	row("scrypt (x86-64)", s.perThousand(lambdaX86))
	row("the sample's design, at least", sample.perThousand(lambdaX86))
	fmt.Printf("%-44s %9.4f\n\n", "pbkdf2 alone, nothing else", alone.Seconds()*vCPU/1024*lambdaX86*1000)
	fmt.Printf("for each key (pbkdf2): %.1f requests to KMS, %.1f write and %.1f read units, %.1f puts and %.1f gets\n",
		per(p.symmetric+p.asymm, p), per(p.writes, p), per(p.reads, p), per(p.puts, p), per(p.gets, p))
	kept := float64(p.tableBytes)/float64(p.keys)*1000/1e9*tableGB + float64(p.bucketBytes)/float64(p.keys)*1000/1e9*bucketGB
	fmt.Printf("kept, for 1,000 keys and a month: $%.4f\n", kept)
	fmt.Printf("an idle month of the sample, at least: $%.2f in one zone, $%.2f in three\n\n", a.sampleIdle(1), a.sampleIdle(3))
	for _, f := range []struct {
		name   string
		value  float64
		digits int
	}{
		{"usd_per_1000_pbkdf2", p.perThousand(lambdaX86).sum(), 4},
		{"usd_per_1000_scrypt", s.perThousand(lambdaX86).sum(), 4},
		{"usd_per_1000_sample", sample.perThousand(lambdaX86).sum(), 4},
		{"usd_idle_month", a.idle(), 2},
		{"usd_idle_month_sample", a.sampleIdle(1), 2},
		{"init_ms", float64(begun.Microseconds()) / 1000, 1},
		{"zip_mb", float64(a.zipBytes) / 1e6, 2},
		{"peak_mb", float64(p.peak) / (1 << 20), 0},
	} {
		fmt.Printf("cost: %s %.*f\n", f.name, f.digits, f.value)
	}
}

func per(n int, b bill) float64 { return float64(n) / float64(b.keys) }

// idle counts what the stacks have that is paid for without being used: keys,
// and nothing else may be there.
func (a *account) idle() (sum float64) {
	for _, r := range a.Stacks.Resources {
		switch r.Type {
		case "AWS::KMS::Key":
			sum += kmsKey
		case "AWS::EC2::VPCEndpoint":
			if t, _ := r.Properties["VpcEndpointType"].(string); t == "Interface" {
				sum += interfaceHub
			}
		case "AWS::IAM::Role", "AWS::IAM::ManagedPolicy", "AWS::IAM::InstanceProfile", "AWS::KMS::Alias", "AWS::DynamoDB::Table", "AWS::S3::Bucket", "AWS::S3::BucketPolicy",
			"AWS::Signer::SigningProfile", "AWS::Lambda::Function", "AWS::Lambda::CodeSigningConfig", "AWS::Logs::LogGroup":
		default:
			// Not known to be free: it must not hide in the sum.
			fmt.Printf("warning: the price of a %s is not known here and not in usd_idle_month\n", strings.TrimPrefix(r.Type, "AWS::"))
		}
	}
	return sum
}

// sampleIdle is what the sample's template surely has: one key and an interface
// endpoint for KMS in each zone. Its trail and its logs are left out.
func (a *account) sampleIdle(zones int) float64 { return kmsKey + float64(zones)*interfaceHub }
