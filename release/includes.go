package release

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// What one line of C, of a cgo preamble or of assembly includes, in any of the
// ways that name a file plainly. A name that is computed is found as no plain
// one (inputs.leaving for this repository, Included.Unknown for modules).
var (
	includesRule  = regexp.MustCompile(`(?m)^[ \t/*]*(?:#|%:|\?\?=)[ \t]*(include|include_next|import|embed)\b[ \t]*(.*)$`)
	assemblesRule = regexp.MustCompile(`(?m)\.inc(?:bin|lude)[ \t]+"([^"\n]+)"`)
	namedRule     = regexp.MustCompile(`^(?:"([^"\n]+)"|<([^>\n]+)>)`)
	folderRule    = regexp.MustCompile(`-I[ \t]*([^ \t\r\n]+)`)
)

// goHeaders are headers that Go's own assembler brings (go doc cmd/asm).
var goHeaders = []string{"textflag.h", "go_asm.h", "go_tls.h", "funcdata.h", "asm_amd64.h", "asm_arm64.h"}

// maxIncluded bounds what is followed of one package, in files.
const maxIncluded = 20_000

// include follows what the C and assembly of a package reads, which go list does
// not name: it lists headers of the package's own folder only, and a #include
// may name a file of any name, in any folder. It follows text, whatever an #if
// says, so that it names rather too many than too few.
//
// root is the folder of the module, dir that of the package below it; the names
// it adds are below root, with slashes.
func (in *inputs) include(module, root, dir string, l listed) error {
	named := slices.Concat(l.CgoFiles, l.CFiles, l.CXXFiles, l.MFiles, l.HFiles, l.FFiles, l.SFiles, l.SwigFiles, l.SwigCXXFiles)
	home := filepath.Join(root, filepath.FromSlash(dir))
	folders := []string{}
	seen := map[string]bool{}
	var queue []string
	for _, name := range named {
		full := filepath.Join(home, name)
		seen[full] = true
		queue = append(queue, full)
	}
	found, unknown := map[string]bool{}, map[string]bool{}
	for len(queue) > 0 && len(seen) < maxIncluded {
		full := queue[0]
		queue = queue[1:]
		info, err := os.Lstat(full)
		if err != nil || !info.Mode().IsRegular() {
			continue // a link is named elsewhere
		}
		data, err := os.ReadFile(full)
		if err != nil {
			return err
		}
		text := strings.NewReplacer("\\\r\n", "", "\\\n", "").Replace(string(data))
		for _, line := range flagRule.FindAllString(text, -1) {
			for _, m := range folderRule.FindAllStringSubmatch(line, -1) {
				folder := strings.ReplaceAll(strings.Trim(m[1], `"'`), "${SRCDIR}", home)
				if !filepath.IsAbs(folder) {
					folder = filepath.Join(home, folder)
				}
				folders = append(folders, filepath.Clean(folder))
			}
		}
		look := func(name string, quoted bool) {
			places := folders
			if quoted {
				places = slices.Concat([]string{filepath.Dir(full)}, folders, []string{home})
			}
			for _, place := range places {
				at := filepath.Join(place, filepath.FromSlash(name))
				rel, err := filepath.Rel(root, at)
				if err != nil || !filepath.IsLocal(rel) {
					continue
				}
				if info, err := os.Stat(at); err != nil || !info.Mode().IsRegular() {
					continue
				}
				if !seen[at] {
					seen[at] = true
					queue = append(queue, at)
					found[filepath.ToSlash(rel)] = true
				}
				return
			}
			// <stdio.h> is the system's; what is quoted should be here.
			if quoted && !slices.Contains(goHeaders, name) {
				unknown[name] = true
			}
		}
		for _, m := range includesRule.FindAllStringSubmatch(text, -1) {
			what := strings.TrimSpace(m[2])
			if name := namedRule.FindStringSubmatch(what); name == nil {
				unknown[what] = true
			} else if name[1] != "" {
				look(name[1], true)
			} else {
				look(name[2], false)
			}
		}
		for _, m := range assemblesRule.FindAllStringSubmatch(text, -1) {
			look(m[1], true)
		}
	}
	if len(queue) > 0 {
		unknown["(more than can be followed)"] = true
	}
	in.addIncluded(module, sortedKeys(found), sortedKeys(unknown))
	return nil
}

// addIncluded adds what the packages of one module include.
func (in *inputs) addIncluded(module string, files, unknown []string) {
	if len(files)+len(unknown) == 0 {
		return
	}
	for i := range files {
		if in.files != nil && module == "" {
			in.files[files[i]] = true
		}
		files[i] = oneLine(files[i])
	}
	for i := range unknown {
		unknown[i] = oneLine(clip(unknown[i]))
	}
	at := slices.IndexFunc(in.included, func(i Included) bool { return i.Module == module })
	if at < 0 {
		at = len(in.included)
		in.included = append(in.included, Included{Module: module})
	}
	join := func(a, b []string) []string {
		out := slices.Concat(a, b)
		slices.Sort(out)
		return slices.Compact(out)
	}
	in.included[at].Files, in.included[at].Unknown = join(in.included[at].Files, files), join(in.included[at].Unknown, unknown)
}
