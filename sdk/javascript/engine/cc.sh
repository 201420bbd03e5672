#!/bin/sh
# The C compiler of QuickJS. What the crate `cc` adds for WASI is left out.
for argument; do
    shift
    case $argument in
        --target=*|-target=*) ;;
        *) set -- "$@" "$argument" ;;
    esac
done
exec $ZIG cc -target wasm32-freestanding -isystem "$QUICKJS_INCLUDE" -fno-strict-aliasing -fwrapv "$@" -Os
