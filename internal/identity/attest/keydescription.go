package attest

import (
	"encoding/asn1"
	"fmt"
)

// keyDescription is the extension that the key store writes into an attested
// key's certificate (source.android.com, "Key and ID attestation").
type keyDescription struct {
	version        int
	attestation    int // security level of the attestation
	keyMint        int // security level of the key
	challenge      []byte
	origin         int // -1 = the hardware does not say
	signs          bool
	rootOfTrust    *rootOfTrust // nil = the hardware does not say
	application    *applicationID
	osVersion      int
	osPatch        int
	allApplication bool
}

var oidKeyDescription = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 1, 17}

// Security levels and boot states, in the extension's order.
var (
	securityLevels = []string{"software", "trusted_environment", "strong_box"}
	bootStates     = []string{"verified", "self_signed", "unverified", "failed"}
)

const (
	securitySoftware = 0
	bootVerified     = 0
	originGenerated  = 0
	purposeSign      = 2

	tagPurpose         = 1
	tagAllApplications = 600
	tagOrigin          = 702
	tagRootOfTrust     = 704
	tagOSVersion       = 705
	tagOSPatch         = 706
	tagApplicationID   = 709

	maxKeyDescription = 8 << 10
	maxAuthorizations = 128
	maxPackages       = 32
)

// parseKeyDescription reads the extension's value. Errors name the part.
func parseKeyDescription(der []byte) (*keyDescription, error) {
	if len(der) > maxKeyDescription {
		return nil, fmt.Errorf("it has %d bytes, at most %d are accepted", len(der), maxKeyDescription)
	}
	var raw struct {
		Version            int
		AttestationLevel   asn1.Enumerated
		KeyMintVersion     int
		KeyMintLevel       asn1.Enumerated
		Challenge          []byte
		UniqueID           []byte
		Software, Hardware asn1.RawValue
	}
	if rest, err := asn1.Unmarshal(der, &raw); err != nil || len(rest) != 0 {
		return nil, fmt.Errorf("it is not a KeyDescription")
	}
	d := &keyDescription{version: raw.Version, attestation: int(raw.AttestationLevel), keyMint: int(raw.KeyMintLevel), challenge: raw.Challenge, origin: -1}
	for _, level := range []int{d.attestation, d.keyMint} {
		if level < 0 || level >= len(securityLevels) {
			return nil, fmt.Errorf("a security level is unknown")
		}
	}
	software, err := authorizations(raw.Software)
	if err != nil {
		return nil, fmt.Errorf("softwareEnforced: %w", err)
	}
	hardware, err := authorizations(raw.Hardware)
	if err != nil {
		return nil, fmt.Errorf("hardwareEnforced: %w", err)
	}
	return d, d.fill(software, hardware)
}

// authorizations splits an AuthorizationList by tag. A tag that comes twice is refused.
func authorizations(list asn1.RawValue) (map[int][]byte, error) {
	if list.Class != asn1.ClassUniversal || list.Tag != asn1.TagSequence || !list.IsCompound {
		return nil, fmt.Errorf("it is not a sequence")
	}
	out := map[int][]byte{}
	for rest := list.Bytes; len(rest) > 0; {
		var item asn1.RawValue
		var err error
		if rest, err = asn1.Unmarshal(rest, &item); err != nil || item.Class != asn1.ClassContextSpecific || !item.IsCompound {
			return nil, fmt.Errorf("it has an element that is not an explicitly tagged value")
		}
		if _, twice := out[item.Tag]; twice || len(out) >= maxAuthorizations {
			return nil, fmt.Errorf("it has an element twice, or more than %d", maxAuthorizations)
		}
		out[item.Tag] = item.Bytes
	}
	return out, nil
}

type rootOfTrust struct {
	BootKey   []byte
	Locked    bool
	BootState asn1.Enumerated
	BootHash  []byte `asn1:"optional"`
}

type applicationID struct {
	Packages []struct {
		Name    []byte
		Version int64
	} `asn1:"set"`
	Digests [][]byte `asn1:"set"`
}

// fill reads what is needed: what the hardware enforces of the key and the
// device, and what the system says of the app.
func (d *keyDescription) fill(software, hardware map[int][]byte) error {
	if raw, ok := hardware[tagRootOfTrust]; ok {
		d.rootOfTrust = &rootOfTrust{}
		if !exactly(raw, d.rootOfTrust) || d.rootOfTrust.BootState < 0 || int(d.rootOfTrust.BootState) >= len(bootStates) {
			return fmt.Errorf("rootOfTrust cannot be read")
		}
	}
	if raw, ok := hardware[tagOrigin]; ok && (!exactly(raw, &d.origin) || d.origin < 0) {
		return fmt.Errorf("origin cannot be read")
	}
	if raw, ok := hardware[tagPurpose]; ok {
		var set asn1.RawValue
		if !exactly(raw, &set) || set.Class != asn1.ClassUniversal || set.Tag != asn1.TagSet || !set.IsCompound {
			return fmt.Errorf("purpose cannot be read")
		}
		for rest := set.Bytes; len(rest) > 0; {
			var purpose int
			var err error
			if rest, err = asn1.Unmarshal(rest, &purpose); err != nil {
				return fmt.Errorf("purpose cannot be read")
			}
			d.signs = d.signs || purpose == purposeSign
		}
	}
	for tag, to := range map[int]*int{tagOSVersion: &d.osVersion, tagOSPatch: &d.osPatch} {
		if raw, ok := hardware[tag]; ok && (!exactly(raw, to) || *to < 0) {
			return fmt.Errorf("the version of the system cannot be read")
		}
	}
	_, inSoftware := software[tagAllApplications]
	_, inHardware := hardware[tagAllApplications]
	d.allApplication = inSoftware || inHardware
	return d.fillApplication(software[tagApplicationID])
}

// fillApplication reads the DER within the octet string of attestationApplicationId.
func (d *keyDescription) fillApplication(raw []byte) error {
	if raw == nil {
		return nil
	}
	var inner []byte
	var a applicationID
	if !exactly(raw, &inner) || !exactly(inner, &a) || len(a.Packages) > maxPackages || len(a.Digests) > maxPackages {
		return fmt.Errorf("attestationApplicationId cannot be read")
	}
	d.application = &a
	return nil
}

// exactly decodes all of raw.
func exactly(raw []byte, into any) bool {
	rest, err := asn1.Unmarshal(raw, into)
	return err == nil && len(rest) == 0
}
