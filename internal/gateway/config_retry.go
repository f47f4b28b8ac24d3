package gateway

import (
	"time"

	"landline/internal/config"
)

// Conditions of RetryConfig.On.
const (
	retryUnreachable  = "unreachable"
	retryReset        = "reset"
	retryTimeout      = "timeout"
	retryGatewayError = "gateway_error"
	retry5xx          = "5xx"
)

// RetryConfig is when a request that failed is tried again, on another target if there is one.
type RetryConfig struct {
	Attempts      int             `yaml:"attempts" min:"1" max:"10" doc:"Tries in all, the first included."`
	PerTryTimeout config.Duration `yaml:"per_try_timeout" max:"1h" doc:"Time of one try to the response header. 0 = what is left of the feature's timeout, which bounds all tries together in any case."`
	On            []string        `yaml:"on" enum:"unreachable,reset,timeout,gateway_error,5xx" doc:"What is tried again. unreachable: no connection, so that nothing was sent. reset: the connection broke, or what came was not HTTP. timeout: the time of the try is over. gateway_error: 502, 503, 504. 5xx: any status from 500 on. An answer with Retry-After is never tried again."`
	Backoff       config.Duration `yaml:"backoff" max:"1m" doc:"Pause before the first retry, at most; twice that before the next, and so on. The pause is drawn at random from 0 to that, and there is none before a target that was not asked yet."`
	MaxBody       config.Bytes    `yaml:"max_body" max:"16MiB" doc:"Largest request body that is kept for a retry. A larger one is not sent again, unless nothing of it was sent."`
}

// Defaults fills the block before its keys are read.
func (c *RetryConfig) Defaults() {
	*c = RetryConfig{
		Attempts: 3, On: []string{retryUnreachable, retryReset, retryTimeout, retryGatewayError},
		Backoff: config.Duration(25 * time.Millisecond), MaxBody: 64 << 10,
	}
}

// HedgeConfig sends a GET that takes long a second time, to another target if
// there is one; the first good answer wins.
type HedgeConfig struct {
	After    config.Duration `yaml:"after" min:"1ms" max:"1h" doc:"How long the first try may take before the second is sent."`
	Quantile float64         `yaml:"quantile" min:"0" max:"0.999" doc:"Send the second one earlier: when the first takes longer than this share of the requests did lately; after is then the longest time. 0 = off." example:"0.95"`
}

// Defaults fills the block before its keys are read.
func (c *HedgeConfig) Defaults() { *c = HedgeConfig{After: config.Duration(500 * time.Millisecond)} }

// BulkheadConfig bounds a feature, so that it cannot take the node from others.
type BulkheadConfig struct {
	MaxConcurrent int             `yaml:"max_concurrent" min:"1" max:"100000" doc:"Requests of the feature that may be under way on this node, streams included."`
	MaxWait       config.Duration `yaml:"max_wait" max:"1m" doc:"How long a request beyond that waits for a place before it is refused with 503 overloaded; as many may wait as may be under way. 0 = not at all."`
}

// Defaults fills the block before its keys are read.
func (c *BulkheadConfig) Defaults() { *c = BulkheadConfig{MaxConcurrent: 100} }
