package mail

import (
	"fmt"
	netmail "net/mail"
	"strings"
	"time"

	"landline/internal/config"
)

// Config is the section "mail" of landline.yaml.
type Config struct {
	From      string     `yaml:"from" doc:"Whom messages come from, as address or Name <address>. Its domain should have SPF, DKIM and DMARC records for the server below." example:"Flights <no-reply@example.com>"`
	ReplyTo   string     `yaml:"reply_to" doc:"Where answers go, as address or Name <address>. Empty = to from." example:"help@example.com"`
	Locale    string     `yaml:"locale" doc:"Language of messages to people whose language has no texts, and of whom none is known. en and pl are there; the folder below may add others."`
	Templates string     `yaml:"templates" doc:"Folder with texts of your own, relative to this file: <language>/<message>.txt and .html replace the ones that are built in, one by one. Empty = none." example:"mail"`
	SMTP      SMTPConfig `yaml:"smtp" doc:"The server that takes messages over. Without a host they are written into data_dir/mail in development; in production nothing that needs mail can be turned on."`
}

// SMTPConfig names the server.
type SMTPConfig struct {
	Host        string          `yaml:"host" doc:"Name of the server, as in its certificate. Empty = no server." example:"smtp.example.com"`
	Port        int             `yaml:"port" doc:"Port, 1 to 65535; 0 = 587, with tls: implicit 465, with tls: none 25."`
	TLS         TLSMode         `yaml:"tls" doc:"starttls = encrypted after a greeting in clear, refused if the server cannot; implicit = encrypted from the first byte; none = in clear, for a relay on the same machine."`
	Username    string          `yaml:"username" doc:"Name to sign in with. Empty = without."`
	Password    config.Secret   `yaml:"password" doc:"Password to sign in with, as ${NAME} or ${file:path}."`
	HELO        string          `yaml:"helo" doc:"Name by which this node greets the server. Empty = the host name."`
	Timeout     config.Duration `yaml:"timeout" doc:"For connecting and for each message, 1s to 5m."`
	Connections int             `yaml:"connections" doc:"Connections of a node at once, 1 to 100. They are kept open for 30 seconds between messages."`
}

// TLSMode says when the connection is encrypted.
type TLSMode string

// The modes.
const (
	STARTTLS TLSMode = "starttls"
	Implicit TLSMode = "implicit"
	NoTLS    TLSMode = "none"
)

// Choices are the values that the configuration takes.
func (TLSMode) Choices() []string { return []string{string(STARTTLS), string(Implicit), string(NoTLS)} }

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{Locale: "en", SMTP: SMTPConfig{TLS: STARTTLS, Timeout: config.Duration(30 * time.Second), Connections: 4}}
}

// Section is the section of landline.yaml that fills c.
func Section(c *Config) config.Section {
	return config.Section{Key: "mail", Ptr: c, Doc: "Messages to people: codes to sign in with, notices about their account."}
}

// Check reports what is missing or out of range.
func (c *Config) Check(v *config.Validator) {
	switch {
	case c.From == "" && c.SMTP.Host != "":
		v.At("from").Fault("write for example Flights <no-reply@example.com>", "is empty, but smtp.host is set")
	case c.From != "":
		if _, err := parseAddress(c.From); err != nil {
			v.At("from").Fault("write for example Flights <no-reply@example.com>", "%s", err)
		}
	}
	if c.ReplyTo != "" {
		if _, err := parseAddress(c.ReplyTo); err != nil {
			v.At("reply_to").Fault("write for example help@example.com", "%s", err)
		}
	}
	if _, ok := cleanLocale(c.Locale); !ok {
		v.At("locale").Fault("write for example en or pt-BR", "is not a language tag")
	}
	if c.Templates != "" {
		c.Templates = v.At("templates").Beside(c.Templates)
		if _, err := LoadTemplates(c.Templates, c.Locale); err != nil {
			v.At("templates").Fault("see docs/guide/mail.md for names and values", "%s", err)
		}
	} else if _, err := LoadTemplates("", c.Locale); err != nil {
		v.At("locale").Fault("use en or pl, or add texts with templates", "%s", err)
	}
	s, at := c.SMTP, v.At("smtp")
	if s.Port < 0 || s.Port > 65535 {
		at.At("port").Fault("the default suits most", "must be 0 to 65535, is %d", s.Port)
	}
	if s.Timeout.D() < time.Second || s.Timeout.D() > 5*time.Minute {
		at.At("timeout").Fault("the default suits most", "must be 1s to 5m, is %s", s.Timeout)
	}
	if s.Connections < 1 || s.Connections > 100 {
		at.At("connections").Fault("the default suits most", "must be 1 to 100, is %d", s.Connections)
	}
	if strings.ContainsAny(s.Host, " :/@") {
		at.At("host").Fault("write the port under port", "is not a bare host name")
	}
	if (s.Username == "") != (s.Password.Reveal() == "") {
		at.At("password").Fault("write both or none", "username and password belong together")
	}
	if s.Username != "" && s.TLS == NoTLS {
		at.At("tls").Fault("use starttls or implicit", "is none, which would send the password in clear")
	}
}

func parseAddress(text string) (*netmail.Address, error) {
	if !printable(text) || len(text) > 512 {
		return nil, fmt.Errorf("is not an address")
	}
	a, err := netmail.ParseAddress(text)
	if err != nil || len(a.Address) > maxAddress {
		return nil, fmt.Errorf("is not an address, or Name <address>")
	}
	return a, nil
}

func (s *SMTPConfig) port() int {
	switch {
	case s.Port != 0:
		return s.Port
	case s.TLS == Implicit:
		return 465
	case s.TLS == NoTLS:
		return 25
	}
	return 587
}
