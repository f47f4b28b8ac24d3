package identity

import "net/http"

// keyProof STUB until dpop is merged.
func (s *Service) keyProof(http.ResponseWriter, *http.Request) (string, *tokenRefusal, error) {
	return "", nil, nil
}

func (s *Service) proofAlgorithms() []string { return nil }
