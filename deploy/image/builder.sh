#!/usr/bin/env bash
# Makes the image that builds ftpnode where no registry can be reached, out of this machine's own Go, the few
# Debian files that a RUN needs, and the modules that go.mod names. It takes the place of golang:1.26 in the Dockerfile
# (--build-arg GO_IMAGE=...). A golang image works the same and needs the network.
. "$(dirname "$0")/lib.sh"

# What is in it decides its name's second part: nothing is done if it is there already.
key=$({ go version; cat go.mod go.sum deploy/image/builder.sh; } | sha256sum | cut -c1-16)
if docker image inspect "$BUILDER:$key" >/dev/null 2>&1; then
    docker tag "$BUILDER:$key" "$BUILDER:latest"
    say "builder: $BUILDER:$key is there already"
    exit
fi
scratch
root=$scratch/root
mkdir -p "$root"/{bin,etc/ssl/certs,tmp,root,usr/local/go,go/pkg/mod}
chmod 1777 "$root/tmp"

# with_libraries copies programs and the libraries that they load.
with_libraries() {
    local program file
    for program in "$@"; do
        cp -L "$program" "$root/bin/"
        for file in $(ldd "$program" | grep -o '/[^ ]*'); do
            mkdir -p "$root$(dirname "$file")"
            cp -L "$file" "$root$file"
        done
    done
}
with_libraries "$(command -v sh)" "$(command -v mkdir)"
[ -s /etc/ssl/certs/ca-certificates.crt ] || fail "this machine has no CA certificates: install ca-certificates"
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"

tar -C "$(go env GOROOT)" --exclude=./test --exclude=./api --exclude=./doc --exclude='./src/cmd/*/testdata' -cf - . | tar -C "$root/usr/local/go" -xf -

# Only what go.mod names, from the machine's cache of downloads first.
proxy="file://$(go env GOMODCACHE)/cache/download,$(go env GOPROXY)"
GOMODCACHE=$root/go/pkg/mod GOFLAGS=-modcacherw GOPROXY=$proxy go mod download

# The standard library and the modules, compiled: it makes each build as quick as our own code. The compiler's cache goes by
# content, so what was compiled here is the same there, or is compiled again.
for arch in amd64 arm64; do
    # shellcheck disable=SC2046 # one word for each package
    GOCACHE=$root/root/.cache/go-build GOFLAGS='' CGO_ENABLED=0 GOOS=linux GOARCH=$arch go build -trimpath $(
        GOFLAGS='' CGO_ENABLED=0 GOOS=linux GOARCH=$arch go list -deps \
            -f '{{if .Standard}}{{.ImportPath}}{{else if not .Module.Main}}{{.ImportPath}}{{end}}' ./cmd/ftpnode ./cmd/echolocal)
done

tar -C "$root" --owner=0 --group=0 -cf - . | docker import \
    --change 'ENV PATH=/usr/local/go/bin:/bin GOPATH=/go GOPROXY=off GOTOOLCHAIN=local HOME=/root' \
    --message 'ftpnode builder' - "$BUILDER:$key" >/dev/null
docker tag "$BUILDER:$key" "$BUILDER:latest"
# Those of former go.mods.
docker images "$BUILDER" --format '{{.Repository}}:{{.Tag}}' | sed -e "/:$key\$/d" -e '/:latest$/d' | xargs -r docker rmi >/dev/null
say "builder: $BUILDER:$key made"
