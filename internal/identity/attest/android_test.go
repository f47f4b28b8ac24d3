package attest_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"landline/internal/identity/attest"
	"landline/internal/identity/attest/attesttest"
)

func (w *world) verifyChain(chain [][]byte, data []byte) (attest.Verdict, error) {
	r, err := w.verifier.Verify(attest.Evidence{Kind: attest.AndroidKey, Chain: chain, ClientData: data}, w.want, now)
	return r.Verdict, err
}

func TestAndroidKey(t *testing.T) {
	w := newWorld(t)
	data := w.clientData(t, attest.Attest)
	key, chain := w.android.Attest(data)
	v, err := w.verifyChain(chain, data)
	if err != nil {
		t.Fatal(err)
	}
	s := v.Signals
	if v.Level != attest.LevelHardware || len(v.Reasons) != 0 || v.KeyThumbprint != attesttest.Thumbprint(&key.PublicKey) || s.App != pkg || s.VersionCode != 42 ||
		s.SecurityLevel != "trusted_environment" || s.BootState != "verified" || !s.Locked || s.OSVersion != 150000 || s.OSPatch != 202602 {
		t.Errorf("%+v", v)
	}
}

// The challenge is set before the key exists, so that the key itself may be what the installation has.
func TestAndroidKeyOfTheInstallation(t *testing.T) {
	w := newWorld(t)
	c := must(w.challenges.New(attest.Attest, subject, now))
	data := []byte(`{"challenge":"` + c.Text + `"}`)
	key, chain := w.android.Attest(data)
	w.want.Thumbprint = attesttest.Thumbprint(&key.PublicKey)
	if _, err := w.verifyChain(chain, data); err != nil {
		t.Error(err)
	}
	w.want.Thumbprint = jkt
	_, err := w.verifyChain(chain, data)
	refused(t, "another key", "jkt", err)
}

// hardware replaces, or with nil drops, an element that the hardware enforces.
func hardware(tag int, value any) func(*attesttest.KeyDescription) {
	return func(d *attesttest.KeyDescription) { d.Hardware = replace(d.Hardware, tag, value) }
}

func software(tag int, value any) func(*attesttest.KeyDescription) {
	return func(d *attesttest.KeyDescription) { d.Software = replace(d.Software, tag, value) }
}

func replace(list []attesttest.Tagged, tag int, value any) []attesttest.Tagged {
	list = slices.DeleteFunc(slices.Clone(list), func(e attesttest.Tagged) bool { return e.Tag == tag })
	if value != nil {
		list = append(list, attesttest.Tagged{Tag: tag, Value: value})
	}
	return list
}

func root(locked bool, state asn1.Enumerated) attesttest.RootOfTrust {
	return attesttest.RootOfTrust{BootKey: make([]byte, 32), Locked: locked, BootState: state, BootHash: make([]byte, 32)}
}

func TestAndroidLevels(t *testing.T) {
	w := newWorld(t)
	id := func(name string, digests ...[]byte) []byte {
		return attesttest.ApplicationID([]attesttest.Package{{Name: []byte("com.example.shared"), Version: 1}, {Name: []byte(name), Version: 2}}, digests...)
	}
	for name, c := range map[string]struct {
		change  func(*attesttest.KeyDescription)
		level   attest.Level
		reasons []attest.Reason
	}{
		"strong box":           {func(d *attesttest.KeyDescription) { d.Attestation, d.KeyMint = 2, 2 }, attest.LevelHardware, nil},
		"software attestation": {func(d *attesttest.KeyDescription) { d.Attestation = 0 }, attest.LevelNone, []attest.Reason{attest.SoftwareKey}},
		"software key":         {func(d *attesttest.KeyDescription) { d.KeyMint = 0 }, attest.LevelNone, []attest.Reason{attest.SoftwareKey}},
		"imported":             {hardware(702, 2), attest.LevelNone, []attest.Reason{attest.ImportedKey}},
		"no origin":            {hardware(702, nil), attest.LevelNone, []attest.Reason{attest.ImportedKey}},
		"self-signed boot":     {hardware(704, root(true, 1)), attest.LevelKey, []attest.Reason{attest.BootUnverified}},
		"unverified boot":      {hardware(704, root(false, 2)), attest.LevelKey, []attest.Reason{attest.BootUnverified}},
		"failed boot":          {hardware(704, root(true, 3)), attest.LevelKey, []attest.Reason{attest.BootUnverified}},
		"unlocked":             {hardware(704, root(false, 0)), attest.LevelKey, []attest.Reason{attest.BootUnverified}},
		"no root of trust":     {hardware(704, nil), attest.LevelKey, []attest.Reason{attest.BootUnverified}},
		"root by software": {func(d *attesttest.KeyDescription) {
			hardware(704, nil)(d)
			software(704, root(true, 0))(d)
		}, attest.LevelKey, []attest.Reason{attest.BootUnverified}},
		"no boot hash": {hardware(704, struct {
			Key    []byte
			Locked bool
			State  asn1.Enumerated
		}{make([]byte, 32), true, 0}), attest.LevelHardware, nil},
		"shared user id":       {software(709, id(pkg, w.android.Certificate[:])), attest.LevelHardware, nil},
		"another certificate":  {software(709, id(pkg, make([]byte, 32))), attest.LevelNone, []attest.Reason{attest.CertificateUnknown}},
		"one more certificate": {software(709, id(pkg, w.android.Certificate[:], make([]byte, 32))), attest.LevelNone, []attest.Reason{attest.CertificateUnknown}},
		"a short digest":       {software(709, id(pkg, w.android.Certificate[:31])), attest.LevelNone, []attest.Reason{attest.CertificateUnknown}},
		"no certificate":       {software(709, id(pkg)), attest.LevelNone, []attest.Reason{attest.CertificateUnknown}},
		"no system version":    {func(d *attesttest.KeyDescription) { hardware(705, nil)(d); hardware(706, nil)(d) }, attest.LevelHardware, nil},
		"an old version":       {func(d *attesttest.KeyDescription) { d.Version = 3 }, attest.LevelHardware, nil},
	} {
		data := w.clientData(t, attest.Attest)
		_, chain := w.android.Attest(data, c.change)
		v, err := w.verifyChain(chain, data)
		if err != nil || v.Level != c.level || !slices.Equal(v.Reasons, c.reasons) {
			t.Errorf("%s: %s %v, %v; want %s %v", name, v.Level, v.Reasons, err, c.level, c.reasons)
		}
	}
}

func TestAndroidMutations(t *testing.T) {
	w := newWorld(t)
	stranger, sub := attesttest.NewAndroid(pkg, now), attesttest.NewKey()
	expired := attesttest.NewCA("Expired", w.android.Intermediate, now.AddDate(-20, 0, 0))
	early := attesttest.NewCA("Early", w.android.Intermediate, now.AddDate(5, 0, 0))
	type change = func(*attesttest.KeyDescription)
	chain := func(make func(good [][]byte) [][]byte) change {
		return func(d *attesttest.KeyDescription) {
			_, good := w.android.Attest(nil, func(e *attesttest.KeyDescription) { e.Challenge = d.Challenge })
			d.Chain = make(good)
		}
	}
	raw := func(change func([]byte) []byte) func(*attesttest.KeyDescription) {
		return func(d *attesttest.KeyDescription) { d.Raw = change(attesttest.Describe(d)) }
	}
	packages := make([]attesttest.Package, 40)
	cases := map[string]struct {
		field  string
		change change
	}{
		"challenge":             {"challenge", func(d *attesttest.KeyDescription) { d.Challenge = make([]byte, 32) }},
		"no challenge":          {"challenge", func(d *attesttest.KeyDescription) { d.Challenge = []byte{} }},
		"longer challenge":      {"challenge", func(d *attesttest.KeyDescription) { d.Challenge = append(slices.Clone(d.Challenge), 0) }},
		"security level":        {"key_description", func(d *attesttest.KeyDescription) { d.Attestation = 3 }},
		"key mint level":        {"key_description", func(d *attesttest.KeyDescription) { d.KeyMint = -1 }},
		"boot state":            {"key_description", hardware(704, root(true, 4))},
		"root of trust no DER":  {"key_description", hardware(704, 1)},
		"origin a text":         {"key_description", hardware(702, "x")},
		"origin negative":       {"key_description", hardware(702, -1)},
		"purpose a number":      {"key_description", hardware(1, 2)},
		"purpose of texts":      {"key_description", hardware(1, asn1.RawValue{FullBytes: []byte{0x31, 3, 4, 1, 0}})},
		"patch a text":          {"key_description", hardware(706, "x")},
		"version negative":      {"key_description", hardware(705, -1)},
		"application id no DER": {"key_description", software(709, []byte("x"))},
		"application id a text": {"key_description", software(709, "x")},
		"many packages":         {"key_description", software(709, attesttest.ApplicationID(packages))},
		"element twice": {"key_description", func(d *attesttest.KeyDescription) {
			d.Hardware = append(d.Hardware, attesttest.Tagged{Tag: 702, Value: 0})
		}},
		"many elements": {"key_description", func(d *attesttest.KeyDescription) {
			for i := range 200 {
				d.Software = append(d.Software, attesttest.Tagged{Tag: 1000 + i, Value: 1})
			}
		}},
		"no sign purpose":   {"purpose", hardware(1, attesttest.Set(3))},
		"no purpose":        {"purpose", hardware(1, nil)},
		"all applications":  {"application_id", hardware(600, asn1.RawValue{Tag: asn1.TagNull})},
		"all, by software":  {"application_id", software(600, asn1.RawValue{Tag: asn1.TagNull})},
		"no application id": {"application_id", software(709, nil)},
		"another app":       {"application_id", software(709, attesttest.ApplicationID([]attesttest.Package{{Name: []byte("com.example.evil"), Version: 1}}, w.android.Certificate[:]))},
		"no app":            {"application_id", software(709, attesttest.ApplicationID(nil, w.android.Certificate[:]))},
		"app by hardware only": {"application_id", func(d *attesttest.KeyDescription) {
			d.Hardware = append(d.Hardware, d.Software...)
			d.Software = nil
		}},
		"no extension":   {"key_description", func(d *attesttest.KeyDescription) { d.Extensions = []pkix.Extension{} }},
		"empty":          {"key_description", raw(func([]byte) []byte { return []byte{} })},
		"trailing bytes": {"key_description", raw(func(b []byte) []byte { return append(b, 0) })},
		"huge":           {"chain", raw(func([]byte) []byte { return make([]byte, attest.MaxCertificate) })},
		"long":           {"key_description", raw(func([]byte) []byte { return make([]byte, 9000) })},
		"a list":         {"key_description", raw(func([]byte) []byte { return []byte{0x30, 0} })},
		"nested":         {"key_description", raw(func([]byte) []byte { return nestedDER(300) })},
		"P-384 key":      {"key", func(d *attesttest.KeyDescription) { d.Key = must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)) }},
		"another root": {"chain", func(d *attesttest.KeyDescription) {
			_, d.Chain = stranger.Attest(nil, func(e *attesttest.KeyDescription) { e.Challenge = d.Challenge })
		}},
		"named like the root": {"chain", chain(func(good [][]byte) [][]byte {
			fake := attesttest.NewCA("Test Key Attestation CA1", nil, now)
			return append(slices.Clone(good[:3]), fake.Certificate.Raw)
		})},
		"no root":            {"chain", chain(func(good [][]byte) [][]byte { return good[:3] })},
		"one certificate":    {"chain", chain(func(good [][]byte) [][]byte { return good[:1] })},
		"no certificates":    {"chain", chain(func([][]byte) [][]byte { return [][]byte{} })},
		"nine certificates":  {"chain", chain(func(good [][]byte) [][]byte { return slices.Repeat(good, 3)[:9] })},
		"out of order":       {"chain", chain(func(good [][]byte) [][]byte { return [][]byte{good[0], good[2], good[1], good[3]} })},
		"a gap":              {"chain", chain(func(good [][]byte) [][]byte { return [][]byte{good[0], good[2], good[3]} })},
		"garbage":            {"chain", chain(func(good [][]byte) [][]byte { return [][]byte{{1, 2}, good[1], good[2], good[3]} })},
		"huge certificate":   {"chain", chain(func(good [][]byte) [][]byte { return [][]byte{make([]byte, attest.MaxCertificate+1), good[1]} })},
		"expired in between": {"chain", between(w, expired)},
		"not valid yet":      {"chain", between(w, early)},
		"only authorities":   {"key_description", chain(func(good [][]byte) [][]byte { return good[1:] })},
		"signed by a leaf":   {"chain", underLeaf(w, sub, false)},
		"signed by an attested key that is an authority": {"chain", underLeaf(w, sub, true)},
	}
	count := 0
	for name, c := range cases {
		data := w.clientData(t, attest.Attest)
		_, chain := w.android.Attest(data, c.change)
		if _, err := w.verifyChain(chain, data); refused(t, name, c.field, err) {
			count++
		}
	}
	data := w.clientData(t, attest.Attest)
	_, good := w.android.Attest(data)
	for c := range good[:3] { // every byte of every certificate
		for i := range good[c] {
			changed := slices.Clone(good)
			changed[c] = slices.Clone(good[c])
			changed[c][i] ^= 1
			if _, err := w.verifyChain(changed, data); err == nil {
				t.Errorf("certificate %d, byte %d may change", c+1, i)
			} else {
				count++
			}
		}
	}
	t.Logf("%d wrong chains refused", count)
	if want := len(cases) + len(good[0]) + len(good[1]) + len(good[2]); count != want {
		t.Errorf("%d refused, want %d", count, want)
	}
}

func nestedDER(depth int) []byte {
	der := []byte{0x30, 0}
	for range depth {
		der = must(asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: der}))
	}
	return der
}

// between lets another authority issue the leaf.
func between(w *world, ca *attesttest.CA) func(*attesttest.KeyDescription) {
	return func(d *attesttest.KeyDescription) {
		_, d.Chain = w.android.Attest(nil, func(e *attesttest.KeyDescription) { e.Challenge, e.Issuer = d.Challenge, ca })
	}
}

// underLeaf makes a genuine attested key vouch for another key.
func underLeaf(w *world, sub *ecdsa.PrivateKey, authority bool) func(*attesttest.KeyDescription) {
	return func(d *attesttest.KeyDescription) {
		middle, chain := w.android.Attest(nil, func(e *attesttest.KeyDescription) { e.Challenge = d.Challenge })
		parent := must(x509.ParseCertificate(chain[0]))
		if authority {
			template := &x509.Certificate{
				SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "Android Keystore Key"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
				NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), ExtraExtensions: parent.Extensions[len(parent.Extensions)-1:],
			}
			chain[0] = w.android.Device.Issue(template, &middle.PublicKey)
			parent = must(x509.ParseCertificate(chain[0]))
		}
		issuer := &attesttest.CA{Certificate: parent, Key: middle}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "x"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
			ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 1, 17}, Value: attesttest.Describe(d)}},
		}
		d.Chain = append([][]byte{issuer.Issue(template, &sub.PublicKey)}, chain...)
	}
}

// Devices carry older certificates of the same root key, which have expired.
func TestAndroidOlderRootCertificate(t *testing.T) {
	w := newWorld(t)
	data := w.clientData(t, attest.Attest)
	_, chain := w.android.Attest(data)
	older := &x509.Certificate{
		SerialNumber: big.NewInt(77), Subject: w.android.Root.Certificate.Subject, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: now.AddDate(-10, 0, 0), NotAfter: now.AddDate(-1, 0, 0),
	}
	chain[3] = w.android.Root.Issue(older, &w.android.Root.Key.PublicKey)
	if _, err := w.verifyChain(chain, data); err != nil {
		t.Error(err)
	}
	// The same name and key, but nobody signed it with that key.
	chain[3] = attesttest.NewCA("x", nil, now).Issue(older, &w.android.Root.Key.PublicKey)
	_, err := w.verifyChain(chain, data)
	refused(t, "not self-signed", "chain", err)
}

func TestAndroidRevocation(t *testing.T) {
	w := newWorld(t)
	data := w.clientData(t, attest.Attest)
	_, chain := w.android.Attest(data)
	for i, der := range chain[1:] {
		serial := must(x509.ParseCertificate(der)).SerialNumber.Text(16)
		for _, spelling := range []string{serial, strings.ToUpper(serial), "00" + serial} {
			list, err := attest.ParseRevocations([]byte(`{"entries":{"c0ffee":{"status":"REVOKED"},"` + spelling + `":{"status":"SUSPENDED","reason":"KEY_COMPROMISE"}}}`))
			if err != nil || list.Len() != 2 {
				t.Fatal(list.Len(), err)
			}
			w.verifier.SetRevocations(list)
			_, err = w.verifyChain(chain, data)
			refused(t, "certificate "+string(rune('2'+i)), "revocation", err)
		}
	}
	w.verifier.SetRevocations(nil)
	if _, err := w.verifyChain(chain, data); err != nil {
		t.Errorf("without a list: %v", err)
	}
	for _, bad := range []string{"", "[]", "{}", `{"entries":[]}`, `{"entries":{"xyz":{"status":"REVOKED"}}}`, `{"entries":{"` + strings.Repeat("a", 65) + `":{}}}`} {
		if _, err := attest.ParseRevocations([]byte(bad)); err == nil {
			t.Errorf("%q is a list", bad)
		}
	}
}
