// Package infra holds the CloudFormation templates of an installation on AWS,
// so that a program or a test reads the very files that are deployed.
// README.md says in which order, by whom, and at what price.
package infra

import "embed"

// Templates are bootstrap.yaml, foundation.yaml, function.yaml and the
// optional network.yaml, schedule.yaml and watch.yaml.
//
//go:embed bootstrap.yaml foundation.yaml function.yaml network.yaml schedule.yaml watch.yaml
var Templates embed.FS
