package stack

import (
	"errors"
	"fmt"
	"slices"
)

// choose is Fn::If; only the branch that is taken is resolved.
func (s *deployment) choose(argument any) (any, error) {
	list, ok := argument.([]any)
	if !ok || len(list) != 3 {
		return nil, errors.New("it takes a condition and two values")
	}
	holds, err := s.truth(map[string]any{"Condition": list[0]})
	if err != nil {
		return nil, err
	}
	if holds {
		return s.resolve(list[1])
	}
	return s.resolve(list[2])
}

func (s *deployment) condition(argument any) (any, error) {
	name, ok := argument.(string)
	if !ok {
		return nil, errors.New("it takes a name")
	}
	if v, done := s.conditions[name]; done {
		return v, nil
	}
	expression, ok := s.template.conditions[name]
	if !ok {
		return nil, fmt.Errorf("no condition %q", name)
	}
	if s.open["condition "+name] {
		return nil, fmt.Errorf("condition %q depends on itself", name)
	}
	s.open["condition "+name] = true
	defer delete(s.open, "condition "+name)
	v, err := s.truth(expression)
	if err != nil {
		return nil, fmt.Errorf("condition %s: %w", name, err)
	}
	s.conditions[name] = v
	return v, nil
}

func (s *deployment) truth(expression any) (bool, error) {
	if m, ok := expression.(map[string]any); ok && len(m) == 1 && m["Condition"] != nil {
		v, err := s.condition(m["Condition"])
		if err != nil {
			return false, err
		}
		return v == true, nil
	}
	v, err := s.resolve(expression)
	if err != nil {
		return false, err
	}
	b, ok := v.(bool)
	if !ok {
		return false, fmt.Errorf("%v is neither true nor false", v)
	}
	return b, nil
}

func (s *deployment) equals(argument any) (any, error) {
	list, err := s.texts(argument, 2)
	if err != nil {
		return nil, err
	}
	return list[0] == list[1], nil
}

func (s *deployment) truths(argument any, min, max int) ([]bool, error) {
	list, ok := argument.([]any)
	if !ok || len(list) < min || len(list) > max {
		return nil, fmt.Errorf("it takes %d to %d conditions", min, max)
	}
	out := make([]bool, len(list))
	for i, one := range list {
		var err error
		if out[i], err = s.truth(one); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (s *deployment) not(argument any) (any, error) {
	list, err := s.truths(argument, 1, 1)
	if err != nil {
		return nil, err
	}
	return !list[0], nil
}

func (s *deployment) and(argument any) (any, error) {
	list, err := s.truths(argument, 2, 10)
	return !slices.Contains(list, false), err
}

func (s *deployment) or(argument any) (any, error) {
	list, err := s.truths(argument, 2, 10)
	return slices.Contains(list, true), err
}

// eachMemberIn is of Rules: every member of the first list is in the second.
func (s *deployment) eachMemberIn(argument any) (any, error) {
	v, err := s.resolve(argument)
	if err != nil {
		return nil, err
	}
	list, ok := v.([]any)
	if !ok || len(list) != 2 {
		return nil, errors.New("it takes two lists")
	}
	these, err1 := texts(list[0], -1)
	those, err2 := texts(list[1], -1)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	return !slices.ContainsFunc(these, func(one string) bool { return !slices.Contains(those, one) }), nil
}

// obey evaluates the template's rules, before anything is made.
func (s *deployment) obey() error {
	for name, v := range s.template.rules {
		rule, err := fields(v, "RuleCondition", "Assertions")
		if err != nil {
			return fmt.Errorf("rule %s: %w", name, err)
		}
		if c, ok := rule["RuleCondition"]; ok {
			applies, err := s.truth(c)
			if err != nil {
				return fmt.Errorf("rule %s: %w", name, err)
			}
			if !applies {
				continue
			}
		}
		list, _ := rule["Assertions"].([]any)
		if len(list) == 0 {
			return fmt.Errorf("rule %s asserts nothing", name)
		}
		for _, one := range list {
			a, err := fields(one, "Assert", "AssertDescription")
			if err != nil {
				return fmt.Errorf("rule %s: %w", name, err)
			}
			ok, err := s.truth(a["Assert"])
			if err != nil {
				return fmt.Errorf("rule %s: %w", name, err)
			}
			if !ok {
				return fmt.Errorf("rule %s: %v", name, a["AssertDescription"])
			}
		}
	}
	return nil
}
