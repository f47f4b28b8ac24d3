package http1

// More classes of bytes.
const (
	// pathByte may stand in a path as it is: neither to be decoded nor one that
	// net/url would write otherwise (RFC 3986 §3.3).
	pathByte = visibleByte << (iota + 1)
	// hostByte may stand in a Host field (RFC 3986 §3.2.2).
	hostByte
)

func init() {
	for i := range class {
		letter := i >= '0' && i <= '9' || i >= 'a' && i <= 'z' || i >= 'A' && i <= 'Z'
		if letter {
			class[i] |= pathByte | hostByte
		}
	}
	for _, b := range "-_.~$&+,/:;=@" {
		class[b] |= pathByte
	}
	for _, b := range "!$%&()*+,-.:;=[]'_~" {
		class[b] |= hostByte
	}
}
