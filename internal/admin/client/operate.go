package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"landline/internal/admin"
	"landline/internal/id"
	"landline/internal/rest"
	"landline/internal/secret"
	"landline/internal/webhook/webhookadmin"
)

// maxPages bounds how many pages of a list are read in one go.
const maxPages = 100

// all reads every page of a list.
func all[T any](ctx context.Context, c *Client, path string) ([]T, error) {
	var out []T
	q := url.Values{"limit": {"200"}}
	for range maxPages {
		page, err := call[rest.List[T]](ctx, c, http.MethodGet, path+"?"+q.Encode(), nil)
		if err != nil {
			return nil, err
		}
		out = append(out, page.Data...)
		if page.Page.Next == nil {
			return out, nil
		}
		q.Set("cursor", *page.Page.Next)
	}
	return nil, fmt.Errorf("%s has more than %d pages", path, maxPages)
}

// none is call for an operation whose answer is empty.
func none(ctx context.Context, c *Client, method, path string, in any) error {
	res, raw, err := c.send(ctx, method, path, in)
	if err != nil {
		return err
	}
	if res.StatusCode >= 300 {
		return asError(res, raw)
	}
	return nil
}

// Keys lists the keys by purpose, without their material.
func (c *Client) Keys(ctx context.Context) ([]secret.KeyInfo, error) {
	out, err := call[rest.List[secret.KeyInfo]](ctx, c, http.MethodGet, "/admin/v1/keys", nil)
	return out.Data, err
}

// RotateKeys makes a purpose's next key the current one.
func (c *Client) RotateKeys(ctx context.Context, purpose, reason string) (secret.Rotation, error) {
	return call[secret.Rotation](ctx, c, http.MethodPost, "/admin/v1/keys/rotate", struct {
		Purpose string `json:"purpose"`
		why
	}{purpose, why{reason}})
}

// Operators lists the operators by age, removed ones too.
func (c *Client) Operators(ctx context.Context) ([]admin.OperatorView, error) {
	return all[admin.OperatorView](ctx, c, "/admin/v1/operators")
}

// RemoveOperator shuts out the operator of this name, or id.
func (c *Client) RemoveOperator(ctx context.Context, nameOrID, reason string) error {
	opID := nameOrID
	if id.Check(id.Operator, nameOrID) != nil {
		operators, err := c.Operators(ctx)
		if err != nil {
			return err
		}
		opID = ""
		for _, o := range operators {
			if o.Name == nameOrID && o.DisabledAt == nil {
				opID = o.ID
			}
		}
		if opID == "" {
			return fmt.Errorf("%w is called %s; `landline operator list` names them", ErrNoOperator, nameOrID)
		}
	}
	path := "/admin/v1/operators/" + url.PathEscape(opID)
	if reason != "" {
		path += "?" + url.Values{"reason": {reason}}.Encode()
	}
	return none(ctx, c, http.MethodDelete, path, nil)
}

// ErrNoOperator says that a name is no operator's.
var ErrNoOperator = errors.New("no operator")

// WebhookEndpoints says how every endpoint is doing.
func (c *Client) WebhookEndpoints(ctx context.Context) ([]webhookadmin.WebhookEndpoint, error) {
	out, err := call[rest.List[webhookadmin.WebhookEndpoint]](ctx, c, http.MethodGet, "/admin/v1/webhooks/endpoints", nil)
	return out.Data, err
}

// WebhookFilter selects deliveries; zero members select all.
type WebhookFilter struct {
	Endpoint, State, Type, Subject string
	Limit                          int
	Cursor                         string
}

// WebhookDeliveries returns one page, newest first, and the cursor of the next or "".
func (c *Client) WebhookDeliveries(ctx context.Context, f WebhookFilter) ([]webhookadmin.WebhookDelivery, string, error) {
	q := url.Values{}
	for name, v := range map[string]string{"endpoint": f.Endpoint, "state": f.State, "type": f.Type, "subject": f.Subject, "cursor": f.Cursor} {
		if v != "" {
			q.Set(name, v)
		}
	}
	if f.Limit > 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	out, err := call[rest.List[webhookadmin.WebhookDelivery]](ctx, c, http.MethodGet, "/admin/v1/webhooks/deliveries?"+q.Encode(), nil)
	if err != nil || out.Page.Next == nil {
		return out.Data, "", err
	}
	return out.Data, *out.Page.Next, nil
}

// WebhookDelivery returns one delivery with its attempts.
func (c *Client) WebhookDelivery(ctx context.Context, deliveryID string) (webhookadmin.WebhookDeliveryDetail, error) {
	return call[webhookadmin.WebhookDeliveryDetail](ctx, c, http.MethodGet, "/admin/v1/webhooks/deliveries/"+url.PathEscape(deliveryID), nil)
}

// ReplayWebhookEvent delivers one event again, to one endpoint or with "" to all.
func (c *Client) ReplayWebhookEvent(ctx context.Context, eventID, endpoint, reason string) (webhookadmin.WebhookReplayed, error) {
	return call[webhookadmin.WebhookReplayed](ctx, c, http.MethodPost, "/admin/v1/webhooks/events/"+url.PathEscape(eventID)+"/replay", struct {
		Endpoint string `json:"endpoint,omitempty"`
		why
	}{endpoint, why{reason}})
}

// ReplayWebhooks delivers to an endpoint again what since and failed select.
func (c *Client) ReplayWebhooks(ctx context.Context, endpoint string, since time.Time, failed bool, reason string) (webhookadmin.WebhookReplayJob, error) {
	var at *time.Time
	if !since.IsZero() {
		at = &since
	}
	return call[webhookadmin.WebhookReplayJob](ctx, c, http.MethodPost, "/admin/v1/webhooks/endpoints/"+url.PathEscape(endpoint)+"/replay", struct {
		Since  *time.Time `json:"since,omitempty"`
		Failed bool       `json:"failed,omitempty"`
		why
	}{at, failed, why{reason}})
}

// PingWebhook sends a test event to an endpoint.
func (c *Client) PingWebhook(ctx context.Context, endpoint, reason string) (webhookadmin.WebhookPinged, error) {
	return call[webhookadmin.WebhookPinged](ctx, c, http.MethodPost, "/admin/v1/webhooks/endpoints/"+url.PathEscape(endpoint)+"/ping", why{reason})
}

// SwitchWebhook enables or disables an endpoint.
func (c *Client) SwitchWebhook(ctx context.Context, endpoint string, on bool, reason string) error {
	verb := "disable"
	if on {
		verb = "enable"
	}
	return none(ctx, c, http.MethodPost, "/admin/v1/webhooks/endpoints/"+url.PathEscape(endpoint)+"/"+verb, why{reason})
}
