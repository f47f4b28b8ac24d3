package identity

import (
	"crypto/sha256"
	"math/bits"

	"landline/internal/problem"
)

// maxWorkBits keeps the cost of a first launch within what an old phone does in
// seconds: 2^22 hashes on average.
const maxWorkBits = 22

// checkWork asks a new installation for a proof of work (hashcash): SHA-256 over
// "landline-work", the app's id, what identifies the launch and work, each ended
// by a zero byte but the last, begins with BotCostConfig.Bits zero bits. It costs
// us one hash, and who makes installations by the million a bill.
func (s *Service) checkWork(r Registration) error {
	want := s.config.BotCost.Bits
	if want == 0 {
		return nil
	}
	subject := r.IdempotencyKey
	if r.Proof != nil {
		subject = r.Proof.Key.Thumbprint
	}
	if subject == "" { // a wrong secret makes a new installation, another one for each secret
		subject = r.Secret
	}
	sum := sha256.Sum256([]byte("landline-work\x00" + s.app.ID + "\x00" + subject + "\x00" + r.Work))
	if zeroBits(sum[:]) >= want {
		return nil
	}
	return problem.New(problem.WorkRequired, "a new installation must show a proof of work of %d bits in work", want).With("bits", want)
}

func zeroBits(b []byte) int {
	n := 0
	for _, c := range b {
		if c != 0 {
			return n + bits.LeadingZeros8(c)
		}
		n += 8
	}
	return n
}
