// Package openapi holds the descriptions of the APIs that stakeseal serves, as
// they are served.
package openapi

import _ "embed"

// Signer describes the signing API (OpenAPI 3.0, YAML).
//
//go:embed signer.yaml
var Signer []byte
