package world

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/stakeseal/stakeseal/infra/stack"
	"github.com/stakeseal/stakeseal/internal/aws/awstest/call"
)

// Fire has the schedules of the installation hand over their events, as if
// their time were at. EventBridge Scheduler takes a role of the target for it,
// if that role trusts it. The events are invocations of the asynchronous kind:
// Settle waits for them.
func (w *World) Fire(at time.Time) error {
	w.mu.Lock()
	inst := w.inst
	schedules := w.resources("AWS::Scheduler::Schedule")
	w.mu.Unlock()
	if len(schedules) == 0 {
		return fmt.Errorf("there is no schedule")
	}
	for _, s := range schedules {
		if text(s.Properties["State"]) == "DISABLED" {
			continue
		}
		if err := w.fire(inst, s, at); err != nil {
			return fmt.Errorf("schedule %s: %w", s.PhysicalID, err)
		}
	}
	return nil
}

// trusts says whether a role lets a service take it.
func (w *World) trusts(inst *stack.Installation, role, service string, context map[string][]string) error {
	d, err := inst.Authorize(stack.Request{Principal: service, Action: "sts:AssumeRole", Resource: role, Context: context})
	if err == nil && !d.Allowed {
		err = errors.New(d.Why)
	}
	if err != nil {
		return fmt.Errorf("the role %s does not trust %s: %w", role, service, err)
	}
	return nil
}

func (w *World) fire(inst *stack.Installation, s stack.Resource, at time.Time) error {
	target := fields(s.Properties["Target"])
	role, alias := text(target["RoleArn"]), text(target["Arn"])
	// AWS names the schedule's group here, not the schedule.
	group := "arn:aws:scheduler:" + Region + ":" + Account + ":schedule-group/" + text(s.Properties["GroupName"])
	if err := w.trusts(inst, role, "scheduler.amazonaws.com", map[string][]string{"aws:SourceAccount": {Account}, "aws:SourceArn": {group}}); err != nil {
		return err
	}
	e := Event{Time: time.Now(), ID: call.UUID(), Service: "lambda", Action: "Invoke", Region: Region, Resource: alias, Data: true, agent: "scheduler.amazonaws.com",
		Params: map[string]any{"functionName": alias, "invocationType": "Event"}}
	who := w.open(role, Session{Name: "scheduler"})
	e.Role, e.Session, e.AccessKey = who.Role, who.Session, who.AccessKey
	allowed, why := w.may(who, Region, call.Need{Action: "lambda:InvokeFunction", Resource: alias, Context: map[string][]string{"lambda:FunctionArn": {alias}}})
	if !allowed {
		e.Error, e.Message = "AccessDenied", why
		w.note(e)
		return fmt.Errorf("the role %s may not invoke %s: %s", role, alias, why)
	}
	w.note(e)
	event := strings.ReplaceAll(text(target["Input"]), "<aws.scheduler.scheduled-time>", at.UTC().Format("2006-01-02T15:04:05Z"))
	parts := strings.Split(alias, ":")
	f := w.functions
	f.mu.Lock()
	fn := f.byName[parts[6]]
	f.mu.Unlock()
	if fn == nil || len(parts) != 8 {
		return fmt.Errorf("no function %s", alias)
	}
	doubled := w.fault(who, "scheduler", "Fire", "").Kind == Doubled
	f.deliver(fn, parts[7], e.ID, []byte(event))
	if doubled {
		f.deliver(fn, parts[7], e.ID, []byte(event))
	}
	return nil
}
