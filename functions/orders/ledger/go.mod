module ledger

go 1.24

require dunlin.dev/go v0.0.0

replace dunlin.dev/go => ../../../sdk/go
