// Joins the bindings to package plugin, where the work is done.
package main

import _ "example.org/plugin-name/bindings/wit_exports"

func main() {}
