package observe

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	common "go.opentelemetry.io/proto/slim/otlp/common/v1"
)

// maxAttr is the longest text of a span's name, error or attribute, in bytes.
const maxAttr = 4 << 10

func keyValue(a Attr) *common.KeyValue {
	return &common.KeyValue{Key: valid(a.Key), Value: anyValue(a.Value)}
}

func anyValue(v any) *common.AnyValue {
	switch v := v.(type) {
	case string:
		return text(Redact(v))
	case bool:
		return &common.AnyValue{Value: &common.AnyValue_BoolValue{BoolValue: v}}
	case int:
		return integer(int64(v))
	case int64:
		return integer(v)
	case float64:
		return double(v)
	case time.Duration:
		return double(v.Seconds())
	default:
		return text(Redact(fmt.Sprint(v)))
	}
}

func text(s string) *common.AnyValue {
	return &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: valid(s)}}
}

func integer(i int64) *common.AnyValue {
	return &common.AnyValue{Value: &common.AnyValue_IntValue{IntValue: i}}
}

func double(f float64) *common.AnyValue {
	return &common.AnyValue{Value: &common.AnyValue_DoubleValue{DoubleValue: f}}
}

// valid makes s fit for a protobuf string, which must be UTF-8: one bad byte
// from a client would spoil a whole batch.
func valid(s string) string {
	if len(s) > maxAttr {
		s = s[:maxAttr]
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// hexBytes decodes digits that were checked before.
func hexBytes(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic("observe: hexBytes of unchecked text")
	}
	return b
}

// unixNano is 0, "unknown" in OTLP, for a zero time or one before 1970.
func unixNano(t time.Time) uint64 {
	if n := t.UnixNano(); !t.IsZero() && n > 0 {
		return uint64(n)
	}
	return 0
}
