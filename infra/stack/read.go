package stack

import (
	"errors"
	"fmt"
	"strings"

	"github.com/stakeseal/stakeseal/infra/policy"
)

// read takes the policies out of the resources.
func (in *Installation) read() error {
	boundaries := map[string]*policy.Document{}
	for _, r := range in.Resources {
		if r.Type != "AWS::IAM::ManagedPolicy" {
			continue
		}
		d, err := document(policy.Identity, r.Properties["PolicyDocument"])
		if err != nil {
			return fmt.Errorf("%s: %w", r.LogicalID, err)
		}
		for _, attached := range []string{"Roles", "Users", "Groups"} {
			if r.Properties[attached] != nil {
				return fmt.Errorf("%s: policies are attached by the role here, not by themselves", r.LogicalID)
			}
		}
		boundaries[r.ARN] = d
	}
	for _, r := range in.Resources {
		if err := in.readOne(r, boundaries); err != nil {
			return fmt.Errorf("%s %s: %w", r.Type, r.LogicalID, err)
		}
	}
	return nil
}

func (in *Installation) readOne(r Resource, managed map[string]*policy.Document) error {
	switch r.Type {
	case "AWS::IAM::Role":
		return in.readRole(r, managed)
	case "AWS::KMS::Key":
		return in.guard(r.ARN, policy.Key, r.Properties["KeyPolicy"])
	case "AWS::DynamoDB::Table":
		if p, ok := r.Properties["ResourcePolicy"].(map[string]any); ok {
			return in.guard(r.ARN, policy.Resource, p["PolicyDocument"])
		}
	case "AWS::S3::BucketPolicy":
		return in.guard("arn:"+in.Partition+":s3:::"+fmt.Sprint(r.Properties["Bucket"]), policy.Resource, r.Properties["PolicyDocument"])
	case "AWS::SNS::TopicPolicy":
		topics, err := texts(r.Properties["Topics"], 1)
		if err != nil {
			return err
		}
		return in.guard(topics[0], policy.Resource, r.Properties["PolicyDocument"])
	case "AWS::SQS::QueuePolicy":
		queues, err := texts(r.Properties["Queues"], 1)
		if err != nil {
			return err
		}
		name := queues[0][strings.LastIndex(queues[0], "/")+1:]
		return in.guard(fmt.Sprintf("arn:%s:sqs:%s:%s:%s", in.Partition, in.Region, in.Account, name), policy.Resource, r.Properties["PolicyDocument"])
	case "AWS::EC2::VPCEndpoint":
		d, err := document(policy.Endpoint, r.Properties["PolicyDocument"])
		if err != nil {
			return err
		}
		in.endpoints[r.LogicalID] = d
	}
	return nil
}

func (in *Installation) guard(arn string, kind policy.Kind, v any) error {
	d, err := document(kind, v)
	if err != nil {
		return err
	}
	if in.guards[arn] != nil {
		return errors.New("two policies at one resource")
	}
	in.guards[arn] = d
	return nil
}

func (in *Installation) readRole(r Resource, managed map[string]*policy.Document) error {
	role := &Role{Name: r.PhysicalID, ARN: r.ARN}
	var err error
	if role.Trust, err = document(policy.Trust, r.Properties["AssumeRolePolicyDocument"]); err != nil {
		return err
	}
	in.guards[r.ARN] = role.Trust
	if v, ok := r.Properties["PermissionsBoundary"]; ok {
		if role.Boundary = managed[fmt.Sprint(v)]; role.Boundary == nil {
			return fmt.Errorf("its boundary %v is none of ours", v)
		}
	}
	if list, ok := r.Properties["ManagedPolicyArns"].([]any); ok {
		for _, v := range list {
			d := managed[fmt.Sprint(v)]
			if d == nil {
				return fmt.Errorf("policy %v is none of ours: what it says could change without us", v)
			}
			role.Policies = append(role.Policies, d)
		}
	}
	list, _ := r.Properties["Policies"].([]any)
	for _, v := range list {
		m, err := fields(v, "PolicyName", "PolicyDocument")
		if err != nil {
			return err
		}
		d, err := document(policy.Identity, m["PolicyDocument"])
		if err != nil {
			return fmt.Errorf("%v: %w", m["PolicyName"], err)
		}
		role.Policies = append(role.Policies, d)
	}
	in.roles[r.ARN] = role
	return nil
}
