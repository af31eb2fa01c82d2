#!/bin/sh
# Makes internal/bindings anew from the contract, by wit-bindgen 0.63.0 (cargo install wit-bindgen-cli).
# The generated code keeps its imports of types, but gets them from internal/wit; what it calls
# comes together in internal/exports.
set -eu
cd "$(dirname "$0")"
module=github.com/consort-host/consort/guest-sdk/go
rm -rf internal/bindings
wit-bindgen go "${1:-../../wit}" --world plugin --out-dir internal/bindings
cd internal/bindings
rm go.mod
find . -name '*.go' -exec sed -i \
    -e "s#\"wit_component/export_[a-z_]*\"#\"$module/internal/exports\"#" \
    -e "s#export_consort_plugin_[a-z_]*\.#exports.#g" \
    -e "s#\"wit_component/#\"$module/internal/bindings/#" \
    -e "s#go.bytecodealliance.org/pkg/wit/runtime#$module/internal/wit#" \
    -e "s#go.bytecodealliance.org/pkg/wit/types#$module/internal/wit#" \
    -e 's/^package main$/package bindings/' \
    -e '/^\/\/ Unused, but present/d' -e '/^func main()/d' {} +
# Several interfaces come from one package there, which is imported once.
awk '!/internal\/exports"$/ || !seen++' wit_exports.go > wit_exports.tmp
mv wit_exports.tmp wit_exports.go
gofmt -w .
