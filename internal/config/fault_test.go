package config_test

import (
	"strings"
	"testing"
)

// faultCases are files and all that is wrong with them.
var faultCases = []struct{ name, file, want string }{
	{"unknown key", "shop:\n  nmae: x\n", lineSet(
		`2:3: shop.nmae: unknown key (did you mean name?)`)},
	{"unknown key far from all", "shop:\n  name: x\n  zzzzzzz: x\n", lineSet(
		`3:3: shop.zzzzzzz: unknown key (known keys: name, count, small, port, ratio, on_duty, wait, size, mode, token, tags, desks, stock, limit, night, body, alarm, secrets, city)`)},
	{"unknown section", "shopp: {name: x}\n", lineSet(
		`1:1: shopp: unknown key (did you mean shop?)`)},
	{"unknown section far", "anything: {name: x}\n", lineSet(
		`1:1: anything: unknown key (known keys: shop)`)},
	{"dash for underscore", "shop:\n  name: x\n  on-duty: true\n", lineSet(
		`3:3: shop.on-duty: unknown key (did you mean on_duty?)`)},
	{"unknown deep", "shop:\n  name: x\n  desks:\n    - {number: 1, nubmer: 2}\n  stock:\n    tea: {prise: 3}\n", lineSet(
		`4:19: shop.desks[0].nubmer: unknown key (did you mean number?)`,
		`6:11: shop.stock.tea.prise: unknown key (did you mean price?)`)},
	{"missing required", "shop:\n  count: 2\n", lineSet(
		`2:3: shop.name: the key is missing (for example name: Corner)`)},
	{"missing required in item", "shop:\n  name: x\n  desks:\n    - wait: 1s\n", lineSet(
		`4:7: shop.desks[0].number: the key is missing`)},
	{"empty required", "shop:\n  name: \"\"\n", lineSet(
		`2:9: shop.name: it must not be empty (for example name: Corner)`)},
	{"duplicate", "shop:\n  name: x\n  count: 1\n  name: y\n", lineSet(
		`4:3: shop.name: the key is written twice; the first is in line 2 (keep one of them)`)},
	{"duplicate section", "shop: {name: x}\nshop: {name: y}\n", lineSet(
		`2:1: shop: the key is written twice; the first is in line 1 (keep one of them)`)},
	{"duplicate flow", "shop: {name: x, count: 3, name: z}\n", lineSet(
		`1:27: shop.name: the key is written twice; the first is in line 1 (keep one of them)`)},
	{"type int text", "shop:\n  name: x\n  count: many\n", lineSet(
		`3:10: shop.count: expected a whole number, found the text "many"`)},
	{"type int quoted", "shop:\n  name: x\n  count: \"5\"\n", lineSet(
		`3:10: shop.count: expected a whole number, found the text "5" (write it without quotes)`)},
	{"type int float", "shop:\n  name: x\n  count: 1.5\n", lineSet(
		`3:10: shop.count: expected a whole number, found the number 1.5`)},
	{"type int list", "shop:\n  name: x\n  count: [1]\n", lineSet(
		`3:10: shop.count: expected a whole number, found a list`)},
	{"type int map", "shop:\n  name: x\n  count: {a: 1}\n", lineSet(
		`3:10: shop.count: expected a whole number, found a mapping`)},
	{"type int bool", "shop:\n  name: x\n  count: true\n", lineSet(
		`3:10: shop.count: expected a whole number, found true`)},
	{"int null", "shop:\n  name: x\n  count:\n", lineSet(
		`3:10: shop.count: expected a whole number, found no value (give it one, or remove the key for the default)`)},
	{"int leading zero", "shop:\n  name: x\n  port: 0123\n", lineSet(
		`3:9: shop.port: the number begins with 0 (write it without the zero, or as 0o… for octal)`)},
	{"int overflow", "shop:\n  name: x\n  small: 128\n  port: 65536\n", lineSet(
		`3:10: shop.small: the number 128 is out of range (write a number from -128 to 127)`,
		`4:9: shop.port: the number 65536 is out of range (write a number from 0 to 65535)`)},
	{"int underflow", "shop:\n  name: x\n  small: -129\n  port: -1\n", lineSet(
		`3:10: shop.small: the number -129 is out of range (write a number from -128 to 127)`,
		`4:9: shop.port: the number -1 is out of range (write a number from 0 to 65535)`)},
	{"int huge", "shop:\n  name: x\n  count: 123456789012345678901234567890\n", lineSet(
		`3:10: shop.count: the number 123456789012345678901234567890 is out of range (write a number from -9223372036854775808 to 9223372036854775807)`)},
	{"min", "shop:\n  name: x\n  count: 0\n  ratio: -0.1\n  wait: 1us\n  size: 5\n", lineSet(
		`3:10: shop.count: the number 0 is less than 1`,
		`4:10: shop.ratio: the number -0.1 is less than 0`,
		`5:9: shop.wait: the text "1us" is less than 1ms`,
		`6:9: shop.size: the number 5 is less than 1KiB`)},
	{"max", "shop:\n  name: x\n  count: 101\n  ratio: 1.01\n  wait: 2h\n  tags: [red, red, red, red]\n", lineSet(
		`3:10: shop.count: the number 101 is more than 100`,
		`4:10: shop.ratio: the number 1.01 is more than 1`,
		`5:9: shop.wait: the text "2h" is more than 1h`,
		`6:9: shop.tags: it has more than 3 entries`)},
	{"float", "shop:\n  name: x\n  ratio: half\n", lineSet(
		`3:10: shop.ratio: expected a number, found the text "half"`)},
	{"float nan", "shop:\n  name: x\n  ratio: .nan\n", lineSet(
		`3:10: shop.ratio: the number .nan is out of range`)},
	{"float huge", "shop:\n  name: x\n  ratio: 1e999\n", lineSet(
		`3:10: shop.ratio: the number 1e999 is out of range`)},
	{"bool", "shop:\n  name: x\n  on_duty: yes\n", lineSet(
		`3:12: shop.on_duty: expected true or false, found the text "yes" (write true or false without quotes)`)},
	{"bool quoted", "shop:\n  name: x\n  on_duty: \"true\"\n", lineSet(
		`3:12: shop.on_duty: expected true or false, found the text "true" (write true or false without quotes)`)},
	{"text bool", "shop:\n  name: true\n", lineSet(
		`2:9: shop.name: expected text, found true (write "true" in quotes if the text is meant)`)},
	{"text list", "shop:\n  name: [a]\n", lineSet(
		`2:9: shop.name: expected text, found a list`)},
	{"duration list", "shop:\n  name: x\n  wait: [1s]\n", lineSet(
		`3:9: shop.wait: expected a duration such as 800ms, 15m or 30d, found a list`)},
	{"duration number", "shop:\n  name: x\n  wait: 30\n", lineSet(
		`3:9: shop.wait: expected a duration such as 800ms, 15m or 30d, found the number 30 (add the unit: 30s, 30ms)`)},
	{"duration text", "shop:\n  name: x\n  wait: soon\n", lineSet(
		`3:9: shop.wait: expected a duration such as 800ms, 15m or 30d, found the text "soon"`)},
	{"size text", "shop:\n  name: x\n  size: 10MeB\n", lineSet(
		`3:9: shop.size: expected a size such as 256KiB or 10MiB, found the text "10MeB"`)},
	{"enum", "shop:\n  name: x\n  mode: crad\n", lineSet(
		`3:9: shop.mode: the text "crad" is not one of the choices (did you mean card? write one of cash, card)`)},
	{"enum in list", "shop:\n  name: x\n  tags: [red, blue]\n", lineSet(
		`3:15: shop.tags[1]: the text "blue" is not one of the choices (write one of red, green)`)},
	{"list is text", "shop:\n  name: x\n  tags: red\n", lineSet(
		`3:9: shop.tags: expected a list, found the text "red" (write [red])`)},
	{"list is mapping", "shop:\n  name: x\n  tags: {red: green}\n", lineSet(
		`3:9: shop.tags: expected a list, found a mapping`)},
	{"list item null", "shop:\n  name: x\n  tags:\n    - red\n    -\n", lineSet(
		`5:7: shop.tags[1]: the list item has no value (give it one, or remove it)`)},
	{"map is list", "shop:\n  name: x\n  stock: [tea]\n", lineSet(
		`3:10: shop.stock: expected a mapping, found a list`)},
	{"struct is text", "shop: closed\n", lineSet(
		`1:7: shop: expected a mapping, found the text "closed"`)},
	{"secret in clear", "shop:\n  name: x\n  token: hunter2\n", lineSet(
		`3:10: shop.token: a secret must not be written in the file (put it in the environment or a file, and write ${NAME} or ${file:path})`)},
	{"secret partly in clear", "shop:\n  name: x\n  token: pre${SECRET}\n", lineSet(
		`3:10: shop.token: a secret must not be written in the file (put it in the environment or a file, and write ${NAME} or ${file:path})`)},
	{"secret default in clear", "shop:\n  name: x\n  token: ${SECRET:-hunter2}\n", lineSet(
		`3:10: shop.token: a secret must not have its default in the file (write ${NAME}, or ${NAME:-} when it may be missing)`)},
	{"secret list", "shop:\n  name: x\n  token: [hunter2]\n", lineSet(
		`3:10: shop.token: expected a secret as ${NAME} or ${file:path}, found a list (put it in the environment or a file, and write ${NAME} or ${file:path})`)},
	{"secret in map", "shop:\n  name: x\n  secrets: {a: hunter2, b: \"${SECRET}\"}\n", lineSet(
		`3:16: shop.secrets.a: a secret must not be written in the file (put it in the environment or a file, and write ${NAME} or ${file:path})`)},
	{"unset variable", "shop:\n  name: ${NOPE}\n  token: ${NOPE_TOO}\n", lineSet(
		`2:9: shop.name: the environment variable NOPE is not set (set it, or write ${NOPE:-default})`,
		`3:10: shop.token: the environment variable NOPE_TOO is not set (set it, or write ${NOPE_TOO:-default})`)},
	{"not an expression", "shop:\n  name: ${1X}\n", lineSet(
		`2:9: shop.name: ${1X} is not an expression (write ${NAME}, ${NAME:-default} or ${file:path}; $${ gives the characters ${)`)},
	{"endless expression", "shop:\n  name: ${NAME\n", lineSet(
		`2:9: shop.name: the expression has no end (close it with }, or write $${ for the characters ${)`)},
	{"no such file", "shop:\n  name: ${file:nope.txt}\n", lineSet(
		`2:9: shop.name: the file /etc/ll/nope.txt does not exist (a relative path begins at the folder of the configuration file)`)},
	{"no file name", "shop:\n  name: \"${file:}\"\n", lineSet(
		`2:9: shop.name: there is no file to read (write ${file:path})`)},
	{"value too long", "shop:\n  name: ${LONG}\n", lineSet(
		`2:9: shop.name: the environment variable LONG holds more than 64 KiB`)},
	{"value not text", "shop:\n  name: ${BAD}\n", lineSet(
		`2:9: shop.name: the environment variable BAD is not UTF-8 text (encode binary values, for example as base64)`)},
	{"outside value refused", "shop:\n  name: x\n  count: ${SECRET}\n  wait: ${SECRET}\n  mode: ${SECRET}\n  on_duty: ${SECRET}\n  ratio: ${SECRET}\n  size: ${SECRET}\n", lineSet(
		`3:10: shop.count: expected a whole number, found the value of ${SECRET}`,
		`4:9: shop.wait: expected a duration such as 800ms, 15m or 30d, found the value of ${SECRET}`,
		`5:9: shop.mode: the value of ${SECRET} is not one of the choices (write one of cash, card)`,
		`6:12: shop.on_duty: expected true or false, found the value of ${SECRET}`,
		`7:10: shop.ratio: expected a number, found the value of ${SECRET}`,
		`8:9: shop.size: expected a size such as 256KiB or 10MiB, found the value of ${SECRET}`)},
	{"expression in key", "shop:\n  name: x\n  stock: {\"${NAME}\": {price: 1}}\n", lineSet(
		`3:11: shop.stock: a key cannot come from ${…} (write the name itself)`)},
	{"unknown alias", "shop:\n  name: &corner x\n  mode: *cornr\n", lineSet(
		`3:9: shop.mode: there is no anchor for the alias *cornr (did you mean *corner?)`)},
	{"alias without anchor", "shop:\n  name: *nope\n", lineSet(
		`2:9: shop.name: there is no anchor for the alias *nope (an anchor (&nope) must stand before its aliases)`)},
	{"alias in itself", "shop:\n  name: x\n  body: &a [*a]\n", lineSet(
		`3:13: shop.body[0]: the alias *a stands inside its own anchor`)},
	{"merge of text", "shop:\n  name: x\n  <<: y\n", lineSet(
		`3:7: shop."<<": << takes a mapping or a list of mappings, found the text "y" (write <<: *name or <<: [*a, *b])`)},
	{"two merges", "x-a: &a {count: 2}\nshop:\n  name: x\n  <<: *a\n  <<: *a\n", lineSet(
		`5:3: shop: << is written twice (write <<: [*a, *b])`)},
	{"fault behind alias", "x-a: &a {price: dear}\nshop:\n  name: x\n  stock: {tea: *a}\n", lineSet(
		`1:17: shop.stock.tea.price: expected a whole number, found the text "dear"`)},
	{"tag", "shop:\n  name: !!str x\n", lineSet(
		`2:9: : tags such as !!str are not used in this file (remove the tag; types come from the key)`)},
	{"directive", "%YAML 1.2\n---\nshop: {name: x}\n", lineSet(
		`1:1: : directives such as %YAML are not used in this file (remove the line)`)},
	{"question mark key", "? shop\n: {name: x}\n", lineSet(
		`1:1: : keys marked with ? are not used in this file (write key: value; quote a key that begins with ?)`)},
	{"null key", "~: x\n", lineSet(
		`1:1: : this cannot be a key here (write a plain name)`)},
	{"two documents", "shop: {name: x}\n---\nshop: {name: y}\n", lineSet(
		`2:1: : a second YAML document begins here (keep one document per file)`)},
	{"document after end", "shop: {name: x}\n...\nshop: {name: y}\n", lineSet(
		`3:1: : a second YAML document begins here (keep one document per file)`)},
	{"root list", "- a\n", lineSet(
		`1:1: : the file must be a mapping of section keys, found a list (write for example: profile: development)`)},
	{"root text", "hello\n", lineSet(
		`1:1: : the file must be a mapping of section keys, found the text "hello" (write for example: profile: development)`)},
	{"tab indent", "shop:\n\tname: x\n", lineSet(
		`2:1: : a tab stands where the line is indented (indent with spaces)`)},
	{"tab in value", "shop:\n  name: a\tb\n", lineSet(
		`2:9: : a tab stands before or in this value (use spaces, or put the value in double quotes)`)},
	{"invalid utf8", "shop:\n  name: é\xff\n", lineSet(
		`2:10: : the text is not valid UTF-8 here (save the file as UTF-8)`)},
	{"control character", "shop:\n  name: a\x00b\n", lineSet(
		`2:10: : the control character U+0000 is not allowed in the file (remove it, or write it as \x.. in double quotes)`)},
	{"open quote", "shop:\n  name: \"x\n", lineSet(
		`2:9: : the text in double quotes has no end (close it with ")`)},
	{"open single quote", "shop:\n  name: 'x\n", lineSet(
		`2:9: : the text in single quotes has no end (close it with ')`)},
	{"open list", "shop:\n  tags: [a, b\n", lineSet(
		`2:9: : the [ has no end (close it)`)},
	{"open mapping", "shop: {name: x\n", lineSet(
		`1:7: : the { has no end (close it)`)},
	{"closes nothing", "shop:\n  name: x\n  tags: a]\n  body: ]\n", lineSet(
		`4:9: : the ] closes nothing (remove it, or put the value in quotes)`)},
	{"second colon", "shop:\n  name: a: b\n", lineSet(
		`2:9: : a second key: value stands in this line (put the value in quotes when it holds ": ")`)},
	{"bad indent", "shop:\n  name: x\n   count: 3\n", lineSet(
		`3:9: : the key before this colon begins in an earlier line (check the indentation)`)},
	{"bad dedent", "shop:\n    name: x\n  count: 3\n", lineSet(
		`3:3: : a value does not fit here (check the indentation)`)},
	{"no colon", "shop:\n  name: x\n  count\n", lineSet(
		`3:3: : a key: value is expected here (check the indentation, and the space after the colon)`)},
	{"no space after colon", "shop:\n  name:x\n", lineSet(
		`2:3: shop: expected a mapping, found the text "name:x" (write a space after the colon)`)},
	{"reserved character", "shop:\n  name: @home\n", lineSet(
		`2:9: : a value cannot begin with this character (put the value in quotes)`)},
	{"expression in flow", "shop: {name: ${NAME}}\n", lineSet(
		`1:15: : the mapping in { } goes on without a comma or has no end (write {a: 1, b: 2}; put values with { or } in quotes)`)},
	{"short form refused", "shop:\n  name: x\n  alarm: nobody\n", lineSet(
		`3:10: shop.alarm: somebody must be called`)},
	{"short form wrong type", "shop:\n  name: x\n  alarm: [[1]]\n", lineSet(
		`3:10: shop.alarm: expected text, found a list`)},
	{"raw infinity", "shop:\n  name: x\n  body: {a: [.inf]}\n", lineSet(
		`3:14: shop.body.a[0]: the number .inf cannot be written in JSON (put it in quotes if text is meant)`)},
	{"checker", "shop:\n  name: x\n  stock:\n    tea: {price: 5}\n    milk:\n      fresh: true\n      price: 2000\n", lineSet(
		`7:7: shop.stock.milk.price: 2000 is too much for fresh goods (sell it cheaper)`)},
	{"no checker after its own fault", "shop:\n  name: x\n  stock:\n    milk:\n      fresh: maybe\n      price: 2000\n", lineSet(
		`5:14: shop.stock.milk.fresh: expected true or false, found the text "maybe" (write true or false without quotes)`)},
	{"crlf and bom", "\xef\xbb\xbfshop:\r\n  name: x\r\n  count: no\r\n", lineSet(
		`3:10: shop.count: expected a whole number, found the text "no"`)},
	{"wide characters", "shop:\n  name: x\n  stock: {żółw: {price: dużo}}\n", lineSet(
		`3:25: shop.stock."żółw".price: expected a whole number, found the text "dużo"`)},
	{"odd keys in paths", "shop:\n  name: x\n  stock:\n    \"a.b [c]\": {price: x}\n", lineSet(
		`4:24: shop.stock."a.b [c]".price: expected a whole number, found the text "x"`)},
	{"many at once", "shop:\n  name: x\n  count: 0\n  mode: bar\n  desks:\n    - {number: 1}\n    - {number: one, wait: 5}\nshopp: 1\n", lineSet(
		`3:10: shop.count: the number 0 is less than 1`,
		`4:9: shop.mode: the text "bar" is not one of the choices (write one of cash, card)`,
		`7:16: shop.desks[1].number: expected a whole number, found the text "one"`,
		`7:27: shop.desks[1].wait: expected a duration such as 800ms, 15m or 30d, found the number 5 (add the unit: 5s, 5ms)`,
		`8:1: shopp: unknown key (did you mean shop?)`)},
}

// lineSet is a list of fault lines.
func lineSet(lines ...string) string { return strings.Join(lines, "\n") + "\n" }

func TestFaults(t *testing.T) {
	for _, c := range faultCases {
		t.Run(c.name, func(t *testing.T) {
			s := newShop()
			got := lines(t, load(s, c.file))
			if got != c.want {
				t.Errorf("file:\n%s\ngot:\n%s\nwant:\n%s", c.file, got, c.want)
			}
		})
	}
}
