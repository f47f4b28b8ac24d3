// Package docs executes the documentation: every ```sh block of README.md and
// docs/ runs in a shell, in order, one shell a page, and must end with 0. A
// block after it that is marked text, json or http is its expected output, in which …
// stands for anything. A page's block under <!-- background --> keeps running
// until the page ends.
//
// Pages say 127.0.0.1:8080 and so on, because readers run one Landline; the
// test puts free ports in their place, and names of files into a directory of
// its own.
package docs
