module example.org/plugin-name

go 1.25

require go.bytecodealliance.org/pkg v0.2.2

// `culvert plugin build` writes the bindings, and this package of theirs with them: nothing is fetched.
replace go.bytecodealliance.org/pkg => ./bindings/pkg
