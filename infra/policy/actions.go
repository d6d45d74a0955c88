package policy

import (
	"embed"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
)

//go:embed actions/*.tsv
var lists embed.FS

// Action is one action of AWS's service authorization reference.
type Action struct {
	Name  string // kms:Encrypt
	Level string // Read, List, Write, Tagging or Permissions management
	On    []string
	Keys  []string // condition keys beside the global ones; empty for ec2
}

// Write says whether the action changes something.
func (a Action) Write() bool { return a.Level != "Read" && a.Level != "List" }

type reference struct {
	actions map[string]Action
	kinds   map[string]kindOfResource // by "service:type"
}

type kindOfResource struct {
	pattern string // arn:${Partition}:...
	matches *regexp.Regexp
}

var read = sync.OnceValues(func() (reference, error) {
	all := reference{map[string]Action{}, map[string]kindOfResource{}}
	files, err := lists.ReadDir("actions")
	if err != nil {
		return all, err
	}
	for _, f := range files {
		data, err := lists.ReadFile("actions/" + f.Name())
		if err != nil {
			return all, err
		}
		service := strings.TrimSuffix(f.Name(), ".tsv")
		for line := range strings.Lines(string(data)) {
			if strings.HasPrefix(line, "#") {
				continue
			}
			if kind, pattern, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t"); ok && kind[0] == '@' {
				all.kinds[service+":"+kind[1:]] = kindOfResource{pattern, arnPattern(pattern)}
				continue
			}
			cell := append(strings.Split(strings.TrimSuffix(line, "\n"), "\t"), "", "")
			if len(cell) < 4 || cell[0] == "" || cell[1] == "" {
				return all, fmt.Errorf("list of actions %s: bad line %q", f.Name(), line)
			}
			a := Action{Name: service + ":" + cell[0], Level: cell[1], On: words(cell[2]), Keys: words(cell[3])}
			if level, _, ok := strings.Cut(a.Level, ","); ok {
				a.Level = level // "Tagging, Write"
			}
			all.actions[a.Name] = a
		}
	}
	return all, nil
})

func words(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

// variable is a part of an ARN's pattern that is not the same for all.
var variable = regexp.MustCompile(`\$\{[^}]*\}`)

// arnPattern turns the reference's ${Name} into what such a name can be. The
// names of objects, and of roles with a path, have slashes.
func arnPattern(pattern string) *regexp.Regexp {
	var b strings.Builder
	at := 0
	for _, where := range variable.FindAllStringIndex(pattern, -1) {
		b.WriteString(regexp.QuoteMeta(pattern[at:where[0]]))
		switch name := pattern[where[0]:where[1]]; {
		case strings.Contains(name, "Path"), strings.Contains(name, "ObjectName"), name == "${Id}":
			b.WriteString(".+")
		case strings.Contains(name, "LogGroupName"):
			b.WriteString("[^:]+(:[*])?")
		default:
			b.WriteString("[^/]*")
		}
		at = where[1]
	}
	b.WriteString(regexp.QuoteMeta(pattern[at:]))
	return regexp.MustCompile("^" + b.String() + "$")
}

func known() map[string]Action {
	all, err := read()
	if err != nil {
		panic(err) // the lists are part of this package, and a test reads them
	}
	return all.actions
}

// Carries says whether calls of the action can have a condition key: a global
// one, one of the caller's session, or one of its own.
func (a Action) Carries(key string) bool {
	return strings.HasPrefix(key, "aws:") || key == "lambda:SourceFunctionArn" || slices.ContainsFunc(a.Keys, func(k string) bool {
		before, _, pattern := strings.Cut(k, "${")
		return k == key || pattern && strings.HasPrefix(key, before)
	})
}

// Fits says whether an ARN is of a type of resource that the action is on, or
// "*" one of an action that is on none.
func (a Action) Fits(arn string) bool {
	if len(a.On) == 0 || arn == "*" {
		return len(a.On) == 0 && arn == "*"
	}
	all, err := read()
	if err != nil {
		return false
	}
	service, _, _ := strings.Cut(a.Name, ":")
	return slices.ContainsFunc(a.On, func(on string) bool {
		kind := all.kinds[service+":"+strings.TrimSuffix(on, "*")]
		return kind.matches != nil && kind.matches.MatchString(arn)
	})
}

// Example returns an ARN of each type of resource that the action is on, by
// names that nothing of ours has; "*" for an action that is on none.
func (a Action) Example(region, account string) []string {
	if len(a.On) == 0 {
		return []string{"*"}
	}
	all, err := read()
	if err != nil {
		return nil
	}
	service, _, _ := strings.Cut(a.Name, ":")
	var out []string
	for _, on := range a.On {
		pattern := all.kinds[service+":"+strings.TrimSuffix(on, "*")].pattern
		filled := strings.NewReplacer("${Partition}", "aws", "${Region}", region, "${Account}", account).Replace(pattern)
		if pattern != "" {
			out = append(out, variable.ReplaceAllString(filled, "example"))
		}
	}
	return out
}

// Actions returns every action of the services that the lists hold, by name.
func Actions() []Action { return slices.Clone(sorted()) }

// sorted once: whoever proves something goes through all of them for each role.
var sorted = sync.OnceValue(func() []Action {
	return slices.SortedFunc(maps.Values(known()), func(a, b Action) int { return strings.Compare(a.Name, b.Name) })
})

// Lookup returns an action by its name.
func Lookup(name string) (Action, bool) {
	a, ok := known()[name]
	return a, ok
}

// Services returns the services that the lists hold.
func Services() []string {
	seen := map[string]bool{}
	for name := range known() {
		service, _, _ := strings.Cut(name, ":")
		seen[service] = true
	}
	return slices.Sorted(maps.Keys(seen))
}
