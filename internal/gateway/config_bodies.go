package gateway

import (
	"landline/internal/config"
)

// Values of FeatureConfig.Compression.
const (
	compressionAuto = "auto"
	compressionOff  = "off"
)

func checkBodies(v *config.Validator, f *FeatureConfig) {
	switch f.Compression {
	case "", compressionAuto, compressionOff:
	default:
		v.At("compression").Fault("write auto or off", "%q is no mode of compression", f.Compression)
	}
}
