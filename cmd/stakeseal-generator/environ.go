package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/stakeseal/stakeseal/internal/aws/arn"
)

// errEnvironment says that the environment is not what Lambda sets.
var errEnvironment = errors.New("refusing to make keys in this environment")

// Whoever may change a function's configuration chooses its environment, and
// through it libraries would send calls elsewhere, trust another authority or
// print what they hold: AWS_ENDPOINT_URL_KMS, HTTPS_PROXY, SSL_CERT_FILE,
// GODEBUG, LD_PRELOAD, and the next one, which nobody has thought of. Code
// signing does not cover it. So the environment is compared with what Lambda
// itself sets for provided.al2023, name by name, each with the shape that its
// value has there; the settings need no variable, so the function's
// configuration has none.
//
// The names are those of AWS's page on a function's environment variables,
// and of environments that were really seen: of the X-Ray and metadata
// addresses, the log format and what a shell adds the page says less. Should
// Lambda set a new one some day, no key is made until a release knows it.
//
// variables has the variables that are kept first: with GOTRACEBACK=none they
// are the whole environment that the program works in.
var variables = []variable{
	{"AWS_ACCESS_KEY_ID", kept, text(16, 128, upper+digits)},
	{"AWS_LAMBDA_FUNCTION_MEMORY_SIZE", kept, number(3, 5)},
	{"AWS_LAMBDA_FUNCTION_NAME", kept, text(1, 64, letters+digits+"_-")},
	{"AWS_LAMBDA_FUNCTION_VERSION", kept, either(one("$LATEST"), number(1, 10))},
	{"AWS_LAMBDA_RUNTIME_API", kept, isLocal},
	{"AWS_REGION", kept, arn.GoodRegion},
	{"AWS_SECRET_ACCESS_KEY", kept, text(16, 256, letters+digits+"/+=")},
	{"AWS_SESSION_TOKEN", kept, text(16, 16<<10, letters+digits+"/+=_-")},
	// A panic then prints its message and no words of the stack, which can be
	// secrets. It must stand in the environment that a process starts with.
	{"GOTRACEBACK", added, one("none")},

	{"AWS_ACCESS_KEY", dropped, text(16, 128, upper+digits)},
	{"AWS_DEFAULT_REGION", dropped, arn.GoodRegion},
	{"AWS_EXECUTION_ENV", dropped, text(1, 64, letters+digits+"._-")},
	{"AWS_LAMBDA_INITIALIZATION_TYPE", dropped, one("on-demand", "provisioned-concurrency")}, // a snapshot would share its memory with others
	{"AWS_LAMBDA_LOG_FORMAT", dropped, one("Text", "JSON")},
	{"AWS_LAMBDA_LOG_GROUP_NAME", dropped, text(1, 512, letters+digits+"_/.#-")},
	{"AWS_LAMBDA_LOG_LEVEL", dropped, one("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")},
	{"AWS_LAMBDA_LOG_STREAM_NAME", dropped, text(1, 512, letters+digits+"_/.$[]-")},
	{"AWS_LAMBDA_METADATA_API", dropped, isLocal},
	{"AWS_LAMBDA_METADATA_TOKEN", dropped, text(1, 512, letters+digits+"_.=-")},
	{"AWS_XRAY_CONTEXT_MISSING", dropped, one("LOG_ERROR", "IGNORE_ERROR", "RUNTIME_ERROR")},
	{"AWS_XRAY_DAEMON_ADDRESS", dropped, isLocal},
	{"LAMBDA_RUNTIME_DIR", dropped, one("/var/runtime")},
	{"LAMBDA_TASK_ROOT", dropped, one("/var/task")},
	{"LANG", dropped, one("en_US.UTF-8", "C.UTF-8")},
	{"LD_LIBRARY_PATH", dropped, isSystemPath},
	{"PATH", dropped, isSystemPath},
	{"PWD", dropped, one("/", "/var/task")},
	{"SHLVL", dropped, one("0", "1", "2")},
	{"TZ", dropped, one(":UTC", "UTC", ":/etc/localtime")},
	{"_AWS_XRAY_DAEMON_ADDRESS", dropped, func(v string) bool { a, err := netip.ParseAddr(v); return err == nil && localAddress(a) }},
	{"_AWS_XRAY_DAEMON_PORT", dropped, number(1, 5)},
	{"_HANDLER", dropped, text(1, 128, letters+digits+"_./:-")},
	{"_LAMBDA_TELEMETRY_LOG_FD", dropped, number(1, 3)},
	{"_X_AMZN_TRACE_ID", dropped, text(1, 512, letters+digits+"=;:,.-")},
}

type variable struct {
	name string
	fate fate
	has  func(value string) bool // the shape of what Lambda sets
}

type fate int

const (
	dropped fate = iota // may be there, and is left out
	kept                // has to be there
	added               // is put there
)

// hints say what the more likely of the refused variables would have done.
var hints = map[string]string{
	"AWS_LAMBDA_EXEC_WRAPPER":            "it names a program that would run in place of this one",
	"AWS_LAMBDA_MAX_CONCURRENCY":         "this program takes one order at a time, and no managed instances",
	"AWS_CONTAINER_CREDENTIALS_FULL_URI": "credentials are those of the function's role, not of a snapshot",
	"AWS_CONFIG_FILE":                    "shared configuration can redirect calls",
	"AWS_PROFILE":                        "shared configuration can redirect calls",
	"AWS_CA_BUNDLE":                      "it would add an authority that vouches for AWS",
	"SSL_CERT_FILE":                      "it would add an authority that vouches for AWS",
	"SSL_CERT_DIR":                       "it would add an authority that vouches for AWS",
	"GODEBUG":                            "it changes how this program's libraries work",
	"LD_PRELOAD":                         "it would load code into this program",
}

func hint(name string) string {
	if h, ok := hints[name]; ok {
		return ": " + h
	}
	switch upper := strings.ToUpper(name); {
	case strings.HasPrefix(name, "AWS_ENDPOINT_URL"):
		return ": it would send calls to another address"
	case strings.HasSuffix(upper, "_PROXY"):
		return ": it would send calls through a proxy"
	}
	return ""
}

// The shapes of values.

const (
	upper   = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	letters = upper + "abcdefghijklmnopqrstuvwxyz"
	digits  = "0123456789"
)

// one is one of these values.
func one(values ...string) func(string) bool {
	return func(v string) bool { return slices.Contains(values, v) }
}

// text has least to most characters of a set.
func text(least, most int, set string) func(string) bool {
	return func(v string) bool { return len(v) >= least && len(v) <= most && strings.Trim(v, set) == "" }
}

// number has least to most digits and does not begin with 0.
func number(least, most int) func(string) bool {
	plain := text(least, most, digits)
	return func(v string) bool { return plain(v) && v[0] != '0' }
}

func either(a, b func(string) bool) func(string) bool {
	return func(v string) bool { return a(v) || b(v) }
}

// localAddress takes what cannot leave the machine: loopback, and the
// link-local network at which Lambda reaches its own functions.
func localAddress(a netip.Addr) bool {
	return a.Is4() && (a.IsLoopback() || a.IsLinkLocalUnicast())
}

// isLocal takes a literal address and port, such as 169.254.100.1:9001. A
// name would be asked of somebody.
func isLocal(v string) bool {
	a, err := netip.ParseAddrPort(v)
	return err == nil && localAddress(a.Addr()) && a.Port() > 0 && a.String() == v
}

// isSystemPath takes a list of folders that Lambda's own image has.
func isSystemPath(v string) bool {
	for folder := range strings.SplitSeq(v, ":") {
		if strings.Contains(folder, "..") || !slices.ContainsFunc([]string{"/bin", "/lib64", "/opt", "/sbin", "/usr", "/var/lang", "/var/runtime", "/var/task"},
			func(root string) bool { return folder == root || strings.HasPrefix(folder, root+"/") }) {
			return false
		}
	}
	return true
}

// world is what a function on Lambda is told about itself, checked.
type world map[string]string

// onLambda says whether somebody claims to be a Runtime API. Nothing is
// believed of it here: without the variable a person gets a plain word.
func onLambda(environ []string) bool {
	return slices.ContainsFunc(environ, func(line string) bool { return strings.HasPrefix(line, "AWS_LAMBDA_RUNTIME_API=") })
}

// startEnvironment is what the process was started with, from the kernel:
// os.Environ leaves out what is given twice.
func startEnvironment() ([]string, error) {
	data, err := os.ReadFile("/proc/self/environ")
	if err != nil {
		return nil, fmt.Errorf("%w: couldn't read it: %w", errEnvironment, err)
	}
	text, ended := strings.CutSuffix(string(data), "\x00")
	if !ended {
		return nil, fmt.Errorf("%w: it is empty or cut: %w", errEnvironment, errByHand)
	}
	return strings.Split(text, "\x00"), nil
}

// clean returns the environment that the program works in: of a checked one
// the variables that are kept, and GOTRACEBACK=none, in one order. It refuses
// every variable that Lambda does not set, every value of another shape than
// there, one that is given twice and one that is missing.
//
// The result is its own clean environment, whatever it was made of: it holds
// exactly the kept variables and the added one, with values that pass, in this
// order. So a process that starts itself again with it does so once
// (TestCleanIsIdempotent); there is no mark of it to forge, since what is
// compared is the environment itself.
func clean(environ []string) (world, []string, error) {
	refuse := func(format string, args ...any) (world, []string, error) {
		return nil, nil, fmt.Errorf("%w: %w", errEnvironment, fmt.Errorf(format, args...))
	}
	all := world{}
	for _, line := range environ {
		name, value, ok := strings.Cut(line, "=")
		i := slices.IndexFunc(variables, func(v variable) bool { return v.name == name })
		switch _, twice := all[name]; {
		case !ok:
			return refuse("%q is no variable", short(line))
		case i < 0:
			return refuse("the variable %q is not one that Lambda sets%s; the function's configuration may have none", short(name), hint(name))
		case twice:
			return refuse("the variable %s is set twice", name)
		case !variables[i].has(value): // the value may be a secret
			return refuse("the value of the variable %s is not one that Lambda sets", name)
		}
		all[name] = value
	}
	var out []string
	for _, v := range variables {
		switch value, ok := all[v.name]; {
		case v.fate == dropped:
		case v.fate == added:
			out = append(out, v.name+"=none")
		case !ok:
			return refuse("the variable %s is missing: %w", v.name, errByHand)
		default:
			out = append(out, v.name+"="+value)
		}
	}
	if region, ok := all["AWS_DEFAULT_REGION"]; ok && region != all["AWS_REGION"] {
		return refuse("AWS_DEFAULT_REGION is not AWS_REGION")
	}
	if id, ok := all["AWS_ACCESS_KEY"]; ok && id != all["AWS_ACCESS_KEY_ID"] {
		return refuse("AWS_ACCESS_KEY is not AWS_ACCESS_KEY_ID")
	}
	return all, out, nil
}

// runtimeAddress is the address of the Runtime API, if environ names exactly
// one and it is acceptable, whatever else is wrong: it is whom to tell.
func runtimeAddress(environ []string) string {
	found := ""
	for _, line := range environ {
		if address, ok := strings.CutPrefix(line, "AWS_LAMBDA_RUNTIME_API="); ok {
			if found != "" || !isLocal(address) {
				return ""
			}
			found = address
		}
	}
	return found
}

// short keeps a hostile value from filling a log.
func short(s string) string { return clip(s, 100) }
