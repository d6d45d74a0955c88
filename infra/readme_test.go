package infra_test

import (
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stakeseal/stakeseal/infra/stack"
)

// TestReadme: the commands of README.md put up what they say. Every deploy
// command's parameters are its template's, with values that it takes, and all
// of them together are an installation.
func TestReadme(t *testing.T) {
	data, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(data), "\\\n", " ")
	said := map[string]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if name, value, ok := strings.Cut(line, "="); ok && regexp.MustCompile(`^[A-Z]+$`).MatchString(name) {
			said[name] = expand(value, said)
		}
	}
	parameters := map[string]map[string]string{}
	commands := 0
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "aws cloudformation deploy --stack-name") && !strings.HasPrefix(line, "aws cloudformation deploy --region") {
			continue
		}
		words := regexp.MustCompile(`[A-Za-z]+="[^"]*"|\S+`).FindAllString(line, -1)
		file := words[slices.Index(words, "--template-file")+1]
		short := strings.TrimSuffix(file, ".yaml")
		given := map[string]string{}
		for _, w := range words[slices.Index(words, "--parameter-overrides")+1:] {
			name, value, _ := strings.Cut(w, "=")
			given[name] = strings.Replace(strings.Trim(expand(value, said), `"`), "0xYOUR_ADDRESS", "0x8000000000000000000000000000000000000001", 1)
		}
		if stackName := expand(words[slices.Index(words, "--stack-name")+1], said); stackName != given["Name"]+"-"+short {
			t.Errorf("stack %s from %s for %s", stackName, file, given["Name"])
		}
		if strings.Contains(line, "bootstrap") != slices.Contains(words, "CAPABILITY_NAMED_IAM") {
			t.Errorf("capabilities: %s", line)
		}
		if strings.Contains(line, "--region us-east-1") {
			given["AlarmEmail"] = "second@example.org"
		}
		parameters[short] = given
		commands++
	}
	if commands != 6 {
		t.Fatalf("%d deploy commands", commands)
	}
	parameters["bootstrap"]["Schedule"] = "on" // as the text of step 1 says
	parameters["bootstrap"]["Network"] = "on"
	parameters["network"] = map[string]string{"Zones": "1"}
	parameters["function"]["Network"] = "on"
	in, err := stack.Deploy(stack.Options{Name: parameters["bootstrap"]["Name"], Account: said["ACCOUNT"], Region: "eu-central-1", Parameters: parameters})
	if err != nil {
		t.Fatal(err)
	}
	if missing := absent(in); len(missing) > 0 {
		t.Error(missing)
	}
	// Every parameter with a price, a right or a choice in it is explained.
	for _, short := range stack.Order {
		for name := range in.Parameters[short] {
			if !strings.Contains(string(data), name) && !slices.Contains([]string{"MemorySize", "Timeout", "LogDays", "ReservedConcurrency", "RecoveryDays", "SignatureMonths", "TrailDays", "Timezone", "Enabled", "PlanGwei", "Keystore", "Compounding"}, name) {
				t.Errorf("README.md does not mention %s of %s", name, short)
			}
		}
	}
}

func expand(text string, said map[string]string) string {
	return os.Expand(text, func(name string) string { return said[name] })
}

// TestTerraform: the snippet gives each template the parameters that it has.
func TestTerraform(t *testing.T) {
	data, err := os.ReadFile("terraform/main.tf")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile(`(?s)resource "aws_cloudformation_stack" "(\w+)" \{\n(.*?)\n\}\n`).FindAllStringSubmatch(string(data), -1)
	if len(blocks) != 4 {
		t.Fatalf("%d stacks", len(blocks))
	}
	for _, b := range blocks {
		if !strings.Contains(b[2], `file("${path.module}/../`+b[1]+`.yaml")`) || !strings.Contains(b[2], `"${var.name}-`+b[1]+`"`) {
			t.Errorf("stack %s: %s", b[1], b[2])
		}
		template, err := fs.ReadFile(os.DirFS("."), b[1]+".yaml")
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range regexp.MustCompile(`(?m)\b([A-Z][A-Za-z]+) +=`).FindAllStringSubmatch(b[2], -1) {
			if !strings.Contains(string(template), "\n  "+p[1]+":") {
				t.Errorf("%s has no parameter %s", b[1], p[1])
			}
		}
	}
	variable := string(data[strings.Index(string(data), `variable "principals"`):])
	for who := range stack.Example(account)["bootstrap"] {
		if !strings.Contains(variable[:strings.Index(variable, "}")], strings.TrimSuffix(who, "Principals")) {
			t.Errorf("the variable principals does not name %s", who)
		}
	}
}
