package contract

import (
	"bytes"
	"math/big"
	"strconv"
)

// decimal is a JSON number exactly: ±digits × 10^exp. Zero has no digits; else
// digits neither begins nor ends with 0.
type decimal struct {
	neg    bool
	digits []byte
	exp    int64
}

// maxExp bounds exponents, so that sums of them do not overflow.
const maxExp = 1 << 40

// parseDecimal reads a JSON number; the digits are appended to buf, which is
// returned for the next use.
func parseDecimal(b, buf []byte) (decimal, []byte) {
	var d decimal
	if b[0] == '-' {
		d.neg, b = true, b[1:]
	}
	from := len(buf)
	fraction := false
	for i, c := range b {
		if c == '.' {
			fraction = true
			continue
		}
		if c == 'e' || c == 'E' {
			d.exp += parseExp(b[i+1:])
			break
		}
		if fraction {
			d.exp--
		}
		if c != '0' || len(buf) > from {
			buf = append(buf, c)
		}
	}
	end := len(buf)
	for end > from && buf[end-1] == '0' {
		end--
		d.exp++
	}
	d.digits = buf[from:end:end]
	if len(d.digits) == 0 {
		d = decimal{}
	}
	return d, buf
}

func parseExp(b []byte) int64 {
	neg := b[0] == '-'
	if neg || b[0] == '+' {
		b = b[1:]
	}
	var n int64
	for _, c := range b {
		if n = n*10 + int64(c-'0'); n > maxExp {
			n = maxExp
		}
	}
	if neg {
		return -n
	}
	return n
}

func (d decimal) zero() bool { return len(d.digits) == 0 }

// integer reports whether d is a whole number.
func (d decimal) integer() bool { return d.exp >= 0 }

// compare is -1, 0 or 1.
func (d decimal) compare(o decimal) int {
	switch {
	case d.zero() && o.zero():
		return 0
	case d.zero():
		return -o.sign()
	case o.zero() || d.neg != o.neg:
		return d.sign()
	}
	c := 0
	a, b := d.exp+int64(len(d.digits)), o.exp+int64(len(o.digits))
	switch {
	case a < b:
		c = -1
	case a > b:
		c = 1
	default:
		c = bytes.Compare(d.digits, o.digits) // neither has a trailing zero
	}
	if d.neg {
		return -c
	}
	return c
}

func (d decimal) sign() int {
	if d.neg {
		return -1
	}
	return 1
}

// appendTo writes d in its one canonical form.
func (d decimal) appendTo(buf []byte) []byte {
	if d.zero() {
		return append(buf, '0')
	}
	if d.neg {
		buf = append(buf, '-')
	}
	buf = append(buf, d.digits...)
	buf = append(buf, 'e')
	return strconv.AppendInt(buf, d.exp, 10)
}

// maxFactorDigits bounds numbers whose divisibility is asked for.
const maxFactorDigits = 1000

// multipleOf reports whether d is a whole multiple of m, which is above 0.
func (d decimal) multipleOf(m decimal) bool {
	switch shift := d.exp - m.exp; {
	case d.zero():
		return true
	case shift < 0: // the digits of d would have to end with 0
		return false
	case len(d.digits) > maxFactorDigits:
		return false
	default:
		n, _ := new(big.Int).SetString(string(d.digits), 10)
		by, _ := new(big.Int).SetString(string(m.digits), 10)
		n.Mul(n, new(big.Int).Exp(big.NewInt(10), big.NewInt(shift), by))
		return n.Mod(n, by).Sign() == 0
	}
}
