package attest

import (
	"slices"
	"time"
)

// Policy says what a feature asks of an installation's verdict. The zero Policy
// asks for nothing.
type Policy struct {
	MinLevel     Level
	MaxAge       time.Duration // of the verdict; 0 = any
	Environments []Environment // that are good; nil = Production alone
	Kinds        []Kind        // that are good; nil = all but Fake
}

// Decision is what a Policy says.
type Decision string

// The decisions. All but Allowed refuse; a caller that only wants a signal notes them and goes on.
const (
	Allowed          Decision = "allowed"
	Missing          Decision = "missing"           // no verdict is known
	TooLow           Decision = "too_low"           // the level
	TooOld           Decision = "too_old"           // or from the future: attest again
	WrongEnvironment Decision = "wrong_environment" // for example made with a development build
	WrongKind        Decision = "wrong_kind"
)

// Decide judges v, nil when there is none, at now. Key possession alone, which
// needs no evidence, is the verdict KeyVerdict.
func (p Policy) Decide(v *Verdict, now time.Time) Decision {
	environments := p.Environments
	if environments == nil {
		environments = []Environment{Production}
	}
	switch {
	case p.MinLevel <= LevelNone:
		return Allowed
	case v == nil:
		return Missing
	case v.Level < p.MinLevel:
		return TooLow
	case !slices.Contains(environments, v.Environment):
		return WrongEnvironment
	case p.Kinds == nil && v.Kind == Fake && !slices.Contains(environments, Development),
		p.Kinds != nil && !slices.Contains(p.Kinds, v.Kind):
		return WrongKind
	case v.At.After(now.Add(clockSkew)), p.MaxAge > 0 && now.Sub(v.At) > p.MaxAge:
		return TooOld
	}
	return Allowed
}

// KeyProof is the kind of KeyVerdict: no evidence but a proof of possession.
const KeyProof Kind = "key"

// KeyVerdict is the verdict of an installation that proved to hold the private
// key of thumbprint, and nothing else.
func KeyVerdict(thumbprint string, at time.Time) Verdict {
	return Verdict{Level: LevelKey, Kind: KeyProof, Environment: Production, KeyThumbprint: thumbprint, At: at}
}
