package config_test

import (
	"fmt"
	"os"

	"landline/internal/config"
)

// Three mistakes in a file are told at once, each with its place and a way out.
func Example() {
	type upstream struct {
		URL     string          `yaml:"url" doc:"Base address of the service" required:"true" example:"http://10.0.0.5:9000"`
		Timeout config.Duration `yaml:"timeout" doc:"Longest wait for an answer"`
		Token   config.Secret   `yaml:"token" doc:"Sent to the service"`
	}
	file := []byte(`upstreams:
  flights:
    url: http://10.0.0.5:9000
    timout: 2s
  trips:
    url: http://10.0.0.6:9000
    timeout: 30
    token: s3cret
`)
	upstreams := map[string]upstream{}
	err := config.LoadBytes("landline.yaml", file, []config.Section{
		{Key: "upstreams", Ptr: &upstreams, Doc: "The team's own services, by name."},
	}, config.SystemEnv())
	fmt.Println(err)
	// Output:
	// landline.yaml:4:5: upstreams.flights.timout: unknown key (did you mean timeout?)
	// landline.yaml:7:14: upstreams.trips.timeout: expected a duration such as 800ms, 15m or 30d, found the number 30 (add the unit: 30s, 30ms)
	// landline.yaml:8:12: upstreams.trips.token: a secret must not be written in the file (put it in the environment or a file, and write ${NAME} or ${file:path})
}

// The commented file is what `landline init` writes.
func ExampleCommented() {
	listen := struct {
		Public string `yaml:"public" doc:"Address for the apps"`
		Admin  string `yaml:"admin" doc:"Address for operators"`
	}{"127.0.0.1:8080", "127.0.0.1:8081"}
	err := config.Commented(os.Stdout, []config.Section{{Key: "listen", Ptr: &listen, Doc: "Where Landline listens."}})
	fmt.Println("error:", err)
	// Output:
	// # Configuration of Landline. A key that begins with # has the value shown unless
	// # you remove the # and write another. Check the file with: landline config check
	// #
	// # More files can be read with include: ["features/*.yaml", "teams/*/landline.yaml"],
	// # and landline.production.yaml on top of this one with --env production.
	//
	// # Where Landline listens. A change needs a restart.
	// listen:
	//   # Address for the apps.
	//   #public: 127.0.0.1:8080
	//   # Address for operators.
	//   #admin: 127.0.0.1:8081
	// error: <nil>
}
