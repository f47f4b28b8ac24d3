package problem

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

const referenceIntro = `# Errors

<!-- Generated from internal/problem/catalogue.go by "make docs". Do not edit. -->

Every error that Landline makes is an [RFC 9457](https://www.rfc-editor.org/rfc/rfc9457) document of type
` + "`" + MediaType + "`" + `. Decide by ` + "`code`" + `, which is stable, or by ` + "`action`" + `, which says what helps; show ` + "`title`" + ` and ` + "`detail`" + ` to
developers, not to users. Clients must ignore members they do not know, and treat a code they do not know by its
` + "`action`" + `, or without one by its status.

| member | meaning |
|---|---|
| ` + "`type`" + ` | ` + "`" + TypeBase + "`" + ` and the code |
| ` + "`title`" + ` | one sentence, the same for every occurrence |
| ` + "`status`" + ` | the HTTP status |
| ` + "`code`" + ` | the stable name |
| ` + "`action`" + ` | what helps, see below |
| ` + "`detail`" + ` | this occurrence, in a sentence; may be absent |
| ` + "`instance`" + ` | the path of the request |
| ` + "`retry_after`" + ` | seconds to wait, as in the ` + "`Retry-After`" + ` header; absent when waiting does not help |
| ` + "`trace_id`" + ` | finds the request in logs and traces; also in the ` + "`Landline-Trace-Id`" + ` header |
| ` + "`errors`" + ` | each fault of the request: ` + "`location`" + ` and ` + "`message`" + `; of a configuration: ` + "`file`, `line`, `col`, `path`, `message`, `hint`" + ` |
| ` + "`debug`" + ` | the cause, in the development profile alone |

| action | the client |
|---|---|
| ` + "`retry`" + ` | waits for ` + "`retry_after`" + ` with jitter and sends the same request again; writes with the same ` + "`Idempotency-Key`" + ` |
| ` + "`reauthenticate`" + ` | gets a new session, or offers sign-in; it keeps local data |
| ` + "`update_app`" + ` | asks the user to update |
| ` + "`fix_request`" + ` | has a fault: the same request cannot succeed |
| ` + "`contact_support`" + ` | cannot help itself; report ` + "`trace_id`" + ` |

Bodies that another standard fixes are different: the OAuth token endpoint (RFC 6749), OFREP, OTLP and tus.

`

// Reference writes docs/reference/errors.md: how to read a problem, a table of
// all codes and a section for each.
func Reference(w io.Writer) error {
	var b bytes.Buffer
	b.WriteString(referenceIntro)
	b.WriteString("| status | code | action |\n|---|---|---|\n")
	for _, k := range Catalogue {
		fmt.Fprintf(&b, "| %d | [`%s`](#%s) | `%s` |\n", k.Status, k.Code, k.Code, k.Action)
	}
	for _, k := range Catalogue {
		if err := section(&b, k); err != nil {
			return err
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}

func section(b *bytes.Buffer, k Kind) error {
	fmt.Fprintf(b, "\n## %s\n\n%d %s · `%s` · %s\n\n", k.Code, k.Status, http.StatusText(k.Status), k.Action, k.Title)
	fmt.Fprintf(b, "**Cause.** %s\n\n**Way out.** %s\n", k.Cause, k.WayOut)
	if k.RetryAfter > 0 {
		fmt.Fprintf(b, "\n`Retry-After` is %d unless the answer knows better.\n", New(k.Code, "").retrySeconds())
	}
	var example bytes.Buffer
	body := New(k.Code, "").Body("/v1/example", "4bf92f3577b34da6a3ce929d0e0e4736", "")
	if err := json.Indent(&example, body, "", "  "); err != nil {
		return fmt.Errorf("problem: the example of %s: %w", k.Code, err)
	}
	fmt.Fprintf(b, "\n```json\n%s\n```\n", example.Bytes())
	return nil
}
