module dunlin.dev/go

go 1.24
