// Package config is the mechanics of configuration: it reads a strict YAML file onto the
// defaults of a Go value, finds every problem at once with its path, line and cure, and
// writes the effective configuration back with secrets hidden.
//
// A file becomes a tree of YAML nodes, the tree is decoded beside the Go type ([Load]), and
// the value's own Validate has the last word. Components own their Config types and use
// [Problems], [Duration] and [Size]; the package knows none of them, opens no file but the
// bytes it is given, and keeps no state.
package config
