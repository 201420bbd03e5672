module example.com/{{name}}

go 1.24

require dunlin.dev/go v0.0.0

// `dunlin build` puts it there, of the platform's own version.
replace dunlin.dev/go => {{sdk}}
