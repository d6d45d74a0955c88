package stack

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// deployment is one stack while it is put up.
type deployment struct {
	options    Options
	partition  string
	stack      string // its full name
	template   *template
	given      map[string]string // values of parameters as text
	values     map[string]any    // and as what they are: string or []any
	exports    map[string]string
	resources  map[string]*Resource // those whose condition holds
	conditions map[string]bool
	open       map[string]bool // what is being resolved, against circles
	needs      map[string]map[string]bool
	pure       bool   // in a condition or a rule, which see parameters only
	current    string // the resource whose properties are being resolved
}

// none is AWS::NoValue: what it is given to goes away.
type none struct{}

func (s *deployment) setParameters(given map[string]string) error {
	for name := range given {
		if _, ok := s.template.parameters[name]; !ok {
			return fmt.Errorf("parameter %q: the template has none of that name", name)
		}
	}
	for name, p := range s.template.parameters {
		v, ok := given[name]
		switch {
		case ok:
		case name == "Name":
			v = s.options.Name
		case p.def != nil:
			v = *p.def
		default:
			return fmt.Errorf("parameter %s has no value", name)
		}
		if err := p.check(v); err != nil {
			return fmt.Errorf("parameter %s: %w", name, err)
		}
		s.given[name], s.values[name] = v, v
		if p.kind == "CommaDelimitedList" {
			list := []any{}
			for one := range strings.SplitSeq(v, ",") {
				list = append(list, strings.TrimSpace(one))
			}
			s.values[name] = list
		}
	}
	return nil
}

func (p parameter) check(v string) error {
	if p.allowed != nil && !slices.Contains(p.allowed, v) {
		return fmt.Errorf("%q is none of %q", v, p.allowed)
	}
	if p.pattern != "" {
		values := []string{v}
		if p.kind == "CommaDelimitedList" { // each of them, as CloudFormation does
			values = strings.Split(v, ",")
		}
		for _, one := range values {
			if p.kind == "CommaDelimitedList" {
				one = strings.TrimSpace(one)
			}
			ok, err := regexp.MatchString("^(?:"+p.pattern+")$", one)
			if err != nil || !ok {
				return fmt.Errorf("%q does not match %s: %w", one, p.pattern, errors.Join(err, errors.New("AllowedPattern")))
			}
		}
	}
	size := float64(len(v))
	if p.kind == "Number" {
		var err error
		if size, err = strconv.ParseFloat(v, 64); err != nil {
			return err
		}
	}
	for _, bound := range []struct {
		text string
		low  bool
	}{{p.min, true}, {p.max, false}} {
		if bound.text == "" {
			continue
		}
		limit, err := strconv.ParseFloat(bound.text, 64)
		if err != nil {
			return err
		}
		if bound.low && size < limit || !bound.low && size > limit {
			return fmt.Errorf("%q is beyond the bound %s", v, bound.text)
		}
	}
	return nil
}

// resolve replaces every intrinsic in v.
func (s *deployment) resolve(v any) (any, error) {
	switch v := v.(type) {
	case string, bool:
		return v, nil
	case []any:
		list := make([]any, 0, len(v))
		for _, one := range v {
			got, err := s.resolve(one)
			if err != nil {
				return nil, err
			}
			if got != (none{}) {
				list = append(list, got)
			}
		}
		return list, nil
	case map[string]any:
		if len(v) == 1 {
			for name, argument := range v {
				if name == "Ref" || name == "Condition" && s.isCondition(argument) || strings.HasPrefix(name, "Fn::") {
					return s.call(name, argument)
				}
			}
		}
		m := map[string]any{}
		for _, name := range slices.Sorted(maps.Keys(v)) {
			if name == "Ref" || strings.HasPrefix(name, "Fn::") {
				return nil, fmt.Errorf("%s beside other keys", name)
			}
			got, err := s.resolve(v[name])
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			if got != (none{}) {
				m[name] = got
			}
		}
		return m, nil
	}
	return nil, fmt.Errorf("a value of type %T", v)
}

// isCondition tells {Condition: Name} from the Condition of a policy.
func (s *deployment) isCondition(argument any) bool {
	name, ok := argument.(string)
	_, known := s.template.conditions[name]
	return ok && known
}

func (s *deployment) call(name string, argument any) (any, error) {
	do, ok := map[string]func(any) (any, error){
		"Ref": s.ref, "Fn::Sub": s.sub, "Fn::GetAtt": s.getAtt, "Fn::Join": s.join, "Fn::If": s.choose,
		"Fn::Select": s.pick, "Fn::Split": s.split, "Fn::ImportValue": s.importValue, "Fn::FindInMap": s.findInMap,
		"Fn::GetAZs": s.zones, "Fn::Equals": s.equals, "Fn::Not": s.not, "Fn::And": s.and, "Fn::Or": s.or,
		"Condition": s.condition, "Fn::EachMemberIn": s.eachMemberIn,
	}[name]
	if !ok {
		return nil, fmt.Errorf("intrinsic %s is not known here", name)
	}
	v, err := do(argument)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return v, nil
}

// lookup is what a name in Ref or Sub stands for.
func (s *deployment) lookup(name string) (any, error) {
	switch name {
	case "AWS::Region":
		return s.options.Region, nil
	case "AWS::AccountId":
		return s.options.Account, nil
	case "AWS::Partition":
		return s.partition, nil
	case "AWS::StackName":
		return s.stack, nil
	case "AWS::StackId":
		return s.stackID(), nil
	case "AWS::URLSuffix":
		return "amazonaws.com", nil
	case "AWS::NoValue":
		return none{}, nil
	}
	if v, ok := s.values[name]; ok {
		return v, nil
	}
	r, err := s.resource(name)
	if err != nil {
		return nil, err
	}
	if pattern := kinds[r.Type].ref; pattern != "" {
		return s.fill(pattern, r), nil
	}
	return r.PhysicalID, nil
}

// resource returns a resource that another names, and remembers that the other
// must wait for it.
func (s *deployment) resource(id string) (*Resource, error) {
	if s.pure {
		return nil, fmt.Errorf("%q: a condition or rule sees parameters only", id)
	}
	r, ok := s.resources[id]
	if !ok {
		return nil, fmt.Errorf("%q is no parameter, and no resource under these parameters", id)
	}
	if s.current != "" && s.current != id {
		s.needs[s.current][id] = true
	}
	if r.PhysicalID == "" {
		if err := s.identify(r); err != nil {
			return nil, fmt.Errorf("%s: %w", id, err)
		}
	}
	return r, nil
}

func (s *deployment) identify(r *Resource) error {
	if s.open[r.LogicalID] {
		return errors.New("its name depends on itself")
	}
	s.open[r.LogicalID] = true
	defer delete(s.open, r.LogicalID)
	k, source := kinds[r.Type], s.template.resources[r.LogicalID]
	switch {
	case k.name != "" && source.properties[k.name] != nil:
		v, err := s.resolve(source.properties[k.name])
		if err != nil {
			return err
		}
		text, ok := v.(string)
		if !ok || text == "" {
			return fmt.Errorf("name %v", v)
		}
		r.PhysicalID = text
	case k.id != "":
		r.PhysicalID = s.fill(k.id, r)
	default:
		r.PhysicalID = r.Stack + "-" + r.LogicalID + "-" + made(r.Stack, r.LogicalID)[:12]
	}
	if k.arn == "" {
		return nil
	}
	r.ARN = s.fill(k.arn, r)
	if group := source.properties["GroupName"]; group != nil { // of a schedule, the one type that is named within another
		v, err := s.resolve(group)
		if err != nil {
			return err
		}
		r.ARN = strings.Replace(r.ARN, "{group}", fmt.Sprint(v), 1)
	}
	return nil
}

func (s *deployment) ref(argument any) (any, error) {
	name, ok := argument.(string)
	if !ok {
		return nil, errors.New("it takes a name")
	}
	return s.lookup(name)
}

func (s *deployment) getAtt(argument any) (any, error) {
	list, err := texts(argument, 2)
	if err != nil {
		return nil, err
	}
	r, err := s.resource(list[0])
	if err != nil {
		return nil, err
	}
	pattern, ok := kinds[r.Type].atts[list[1]]
	if !ok {
		return nil, fmt.Errorf("%s has no attribute %q that is known here", r.Type, list[1])
	}
	return s.fill(pattern, r), nil
}

var reference = regexp.MustCompile(`\$\{(!?)([^}]*)\}`)

func (s *deployment) sub(argument any) (any, error) {
	own := map[string]any{}
	text, ok := argument.(string)
	if list, isList := argument.([]any); isList && len(list) == 2 {
		text, ok = list[0].(string)
		m, isMap := list[1].(map[string]any)
		if !isMap {
			return nil, errors.New("its second argument is no mapping")
		}
		own = m
	}
	if !ok {
		return nil, errors.New("it takes a text, or a text and a mapping")
	}
	var failed error
	out := reference.ReplaceAllStringFunc(text, func(match string) string {
		part := reference.FindStringSubmatch(match)
		if part[1] == "!" {
			return "${" + part[2] + "}"
		}
		var v any
		var err error
		id, attribute, dotted := strings.Cut(part[2], ".")
		switch local, isOwn := own[part[2]]; {
		case isOwn:
			v, err = s.resolve(local)
		case dotted:
			v, err = s.getAtt([]any{id, attribute})
		default:
			v, err = s.lookup(part[2])
		}
		one, isText := v.(string)
		if err == nil && !isText {
			err = fmt.Errorf("${%s} is no text", part[2])
		}
		failed = errors.Join(failed, err)
		return one
	})
	return out, failed
}

func (s *deployment) join(argument any) (any, error) {
	list, ok := argument.([]any)
	if !ok || len(list) != 2 {
		return nil, errors.New("it takes a delimiter and a list")
	}
	delimiter, ok := list[0].(string)
	if !ok {
		return nil, errors.New("its delimiter is no text")
	}
	parts, err := s.texts(list[1], -1)
	return strings.Join(parts, delimiter), err
}

func (s *deployment) pick(argument any) (any, error) {
	list, ok := argument.([]any)
	if !ok || len(list) != 2 {
		return nil, errors.New("it takes an index and a list")
	}
	v, err := s.resolve(list[1])
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(fmt.Sprint(list[0]))
	from, ok := v.([]any)
	if err != nil || !ok || n < 0 || n >= len(from) {
		return nil, fmt.Errorf("no element %v in %v", list[0], v)
	}
	return from[n], nil
}

func (s *deployment) split(argument any) (any, error) {
	list, err := s.texts(argument, 2)
	if err != nil {
		return nil, err
	}
	out := []any{}
	for one := range strings.SplitSeq(list[1], list[0]) {
		out = append(out, one)
	}
	return out, nil
}

func (s *deployment) importValue(argument any) (any, error) {
	v, err := s.resolve(argument)
	if err != nil {
		return nil, err
	}
	name, ok := v.(string)
	if !ok {
		return nil, errors.New("it takes a name")
	}
	value, ok := s.exports[name]
	if s.pure || !ok {
		return nil, fmt.Errorf("no stack before this one exports %q", name)
	}
	return value, nil
}

func (s *deployment) findInMap(argument any) (any, error) {
	path, err := s.texts(argument, 3)
	if err != nil {
		return nil, err
	}
	var at any = s.template.mappings
	for _, key := range path {
		m, _ := at.(map[string]any)
		if at = m[key]; at == nil {
			return nil, fmt.Errorf("no mapping %q", path)
		}
	}
	return at, nil
}

func (s *deployment) zones(argument any) (any, error) {
	if argument != "" {
		return nil, errors.New("only of this region: \"\"")
	}
	return []any{s.options.Region + "a", s.options.Region + "b", s.options.Region + "c"}, nil
}

// texts resolves a list of n texts, of any number where n is negative.
func (s *deployment) texts(argument any, n int) ([]string, error) {
	v, err := s.resolve(argument)
	if err != nil {
		return nil, err
	}
	return texts(v, n)
}

func texts(v any, n int) ([]string, error) {
	list, ok := v.([]any)
	if !ok || n >= 0 && len(list) != n {
		return nil, fmt.Errorf("%v is no list of the right length", v)
	}
	var out []string
	for _, one := range list {
		text, ok := one.(string)
		if !ok {
			return nil, fmt.Errorf("%v is no text", one)
		}
		out = append(out, text)
	}
	return out, nil
}
