// Package webhookadmin is the operators' API of package webhook. It stands
// apart because module, which names the roles, knows webhook.
package webhookadmin
