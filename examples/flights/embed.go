package flights

import _ "embed"

// Config is the demo's landline.yaml.
//
//go:embed landline.yaml
var Config []byte
