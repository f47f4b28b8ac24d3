package e2e

import (
	"path/filepath"
	"sync"
	"testing"

	"landline/test/process"
)

// The tables of all modules, of the queue too, are made once, however many
// processes begin with it; and a node comes up beside them.
func TestProcessesThatMakeTheTablesTogether(t *testing.T) {
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			env := []string{"E2E_MASTER_KEY=" + process.MasterKey()}
			if engine == "postgres" {
				env = append(env, "E2E_POSTGRES="+newDatabase(t))
			}
			config, data := movableFile(t, newUpstream(t)), filepath.Join(t.TempDir(), "data")
			var all sync.WaitGroup
			for range 3 {
				all.Go(func() {
					if out, errs, exit := run(t, env, "db", "migrate", "--config", config, "--data", data); exit != 0 {
						t.Errorf("exit %d: %s%s", exit, out, errs)
					}
				})
			}
			n := startNode(t, config, data, env...)
			all.Wait()
			if phone := installPhone(t, n, "the-first-installation"); phone.User.ID == "" {
				t.Error("the node does not install")
			}
			if out, errs, exit := run(t, env, "db", "verify", "--config", config, "--data", data); exit != 0 {
				t.Errorf("verify: exit %d: %s%s", exit, out, errs)
			}
		})
	}
}
