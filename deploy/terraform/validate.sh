#!/usr/bin/env bash
# Validates the module, its submodule and its examples with OpenTofu (or Terraform), as a user's first run does.
#
#   deploy/terraform/validate.sh
#
# It uses $TOFU, else tofu or terraform from the path, else an OpenTofu that it builds once with Go (some minutes) and
# keeps in the user's cache directory. The providers come from where that program gets them: its public registry, or
# what TF_CLI_CONFIG_FILE names (a filesystem_mirror, say).
#
# Exit status: 0 all is valid; 1 something is not, or a tool is missing; 3 nothing is wrong, but a provider could not be
# had, so that not all was validated. The tests of package deploy check every file against the providers' documented
# schemas in any case.
set -euo pipefail
version=v1.10.6
here=$(cd "$(dirname "$0")" && pwd)

build() { # OpenTofu has replace directives, which go install refuses: so from a copy of its module
    local to=$1 module source
    command -v go >/dev/null || { echo "neither tofu nor terraform nor go is installed" >&2; return 1; }
    echo "building OpenTofu $version" >&2
    module=$(cd "$work" && go mod download -json "github.com/opentofu/opentofu@$version" | sed -n 's/^\t"Dir": "\(.*\)",\{0,1\}$/\1/p')
    [ -d "$module" ] || { echo "OpenTofu $version cannot be downloaded" >&2; return 1; }
    source=$work/opentofu
    cp -r "$module" "$source"
    chmod -R u+w "$source"
    mkdir -p "$(dirname "$to")"
    (cd "$source" && CGO_ENABLED=0 GOFLAGS=-buildvcs=false go build -trimpath -ldflags='-s -w' -o "$work/tofu" ./cmd/tofu)
    mv "$work/tofu" "$to"
    rm -rf "$source"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tofu=${TOFU:-$(command -v tofu || command -v terraform || true)}
if [ -z "$tofu" ]; then
    tofu=${XDG_CACHE_HOME:-$HOME/.cache}/ftpnode/tofu-$version
    [ -x "$tofu" ] || build "$tofu"
fi
"$tofu" version | head -n 1

"$tofu" fmt -check -diff -recursive "$here"

# In a copy, since init leaves files behind. The module reads files beside it.
cp -r "$here/.." "$work/deploy"
find "$work/deploy" -name .terraform -prune -exec rm -rf {} +
status=0
for directory in . ecr examples/node-type examples/complete; do
    cd "$work/deploy/terraform/$directory"
    if ! output=$("$tofu" init -backend=false -input=false -no-color 2>&1); then
        if grep -qE 'Failed to (query available|install|resolve) provider' <<<"$output"; then
            echo "$directory: NOT VALIDATED, a provider cannot be had"
            [ "$status" = 1 ] || status=3
        else
            echo "$directory: $output"
            status=1
        fi
    elif "$tofu" validate -no-color >"$work/output" 2>&1; then
        echo "$directory: valid"
    else
        echo "$directory: not valid"
        cat "$work/output"
        status=1
    fi
done
exit "$status"
