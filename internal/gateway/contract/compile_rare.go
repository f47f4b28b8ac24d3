package contract

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// rareKeywords are left to the general validator.
var rareKeywords = []string{
	"unevaluatedProperties", "unevaluatedItems", "contains", "dependentSchemas", "dependencies",
	"$dynamicRef", "$recursiveRef", "$id", "$anchor", "$dynamicAnchor",
}

func (c *compiler) isRare(n *node) bool {
	for _, k := range rareKeywords {
		if n.get(k) != nil {
			return true
		}
	}
	ref := n.get("$ref").text()
	_, fragment, ok := strings.Cut(ref, "#")
	return ok && fragment != "" && !strings.HasPrefix(fragment, "/")
}

// compileRare compiles the schema at n with the general validator, once.
func (c *compiler) compileRare(s *schema, n *node) {
	if c.general == nil {
		c.general = jsonschema.NewCompiler()
		c.general.DefaultDraft(jsonschema.Draft2020)
		c.general.AssertFormat()
		c.general.UseRegexpEngine(func(p string) (jsonschema.Regexp, error) {
			return regexp.Compile(unicodeEscape.ReplaceAllString(p, `\x{$1}`))
		})
		c.general.UseLoader(loader{c})
	}
	pointer, ok := c.pointerTo(n)
	if !ok {
		c.fault(n.fault("the place of this schema cannot be named"))
		return
	}
	sch, err := c.general.Compile(scheme + n.file.name + "#" + pointer)
	if err != nil {
		c.fault(n.fault("is no JSON Schema: %s", firstLine(err)))
		return
	}
	s.rare = sch
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return clip(strings.ReplaceAll(line, scheme, ""), 300)
}

// scheme makes the names of files absolute, as the general validator wants them.
const scheme = "contract:///"

// loader gives the general validator the files of the document.
type loader struct{ c *compiler }

// Load is called with the URL of a file.
func (l loader) Load(url string) (any, error) {
	name, ok := strings.CutPrefix(url, scheme)
	if !ok {
		return nil, fmt.Errorf("%s: only files beside the document are read", url)
	}
	f, err := l.c.files.tree(name)
	if err != nil {
		return nil, err
	}
	return f.root.plain(), nil
}

// pointerTo finds the JSON pointer of a node in its file.
func (c *compiler) pointerTo(n *node) (string, bool) {
	var find func(at *node) (string, bool)
	find = func(at *node) (string, bool) {
		if at == n {
			return "", true
		}
		for i, item := range at.items {
			if p, ok := find(item); ok {
				return "/" + strconv.Itoa(i) + p, true
			}
		}
		for _, k := range at.keys {
			if p, ok := find(at.members[k]); ok {
				return "/" + pathEscape(pointerEscape(k)) + p, true
			}
		}
		return "", false
	}
	return find(n.file.root)
}

// pathEscape makes a pointer's part fit for the fragment of a URL.
func pathEscape(s string) string {
	return strings.NewReplacer("%", "%25", "{", "%7B", "}", "%7D", " ", "%20", "#", "%23", "?", "%3F", `"`, "%22", "<", "%3C", ">", "%3E", "^", "%5E", "`", "%60", "\\", "%5C", "|", "%7C").Replace(s)
}
