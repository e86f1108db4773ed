# The ftpnode image: one static binary, the CA certificates and an empty /data, nothing else.
#
#   docker build -t ftpnode .
#
# Another architecture: docker buildx build --platform linux/arm64 . (it is compiled, not emulated), or with the engine's
# own builder --build-arg TARGETARCH=arm64.
# Where no registry can be reached, give an image of your own that holds Go, a shell and CA certificates:
# --build-arg GO_IMAGE=my-go. deploy/image/builder.sh makes one.

ARG GO_IMAGE=golang:1.26-bookworm
# The compiler runs on the machine that builds, whatever the image is for. (Only BuildKit knows BUILDPLATFORM by itself.)
FROM --platform=${BUILDPLATFORM:-linux/amd64} ${GO_IMAGE} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# No defaults here: they would win over what buildx sets.
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=dev
# No path, time or build id of this machine ends up in the binary: the same source gives the same digest.
RUN CGO_ENABLED=0 GOOS=${TARGETOS:-linux} GOARCH=${TARGETARCH} go build -trimpath -buildvcs=false \
        -ldflags="-s -w -buildid= -X main.release=${VERSION}" -o /out/ftpnode ./cmd/ftpnode \
    && mkdir -p /out/data

FROM scratch
ARG VERSION=dev
LABEL org.opencontainers.image.title="ftpnode" \
      org.opencontainers.image.description="FTP server that delivers every file, unchanged, into an EchoStream tenant" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.source="https://github.com/ftpnode/ftpnode" \
      org.opencontainers.image.documentation="https://github.com/ftpnode/ftpnode"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/ftpnode /ftpnode
# An empty volume takes over this directory's owner: a named or an anonymous one works at once.
COPY --from=build --chown=65532:65532 /out/data /data
USER 65532:65532
VOLUME /data
EXPOSE 2121 30000-30009
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=15s --start-period=10s --retries=3 CMD ["/ftpnode", "healthcheck"]
ENTRYPOINT ["/ftpnode"]
