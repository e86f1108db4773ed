# The local cloud in an image, to try ftpnode's image against. It is for tests: nobody has to log in to it.
#   docker build -f deploy/image/echolocal.Dockerfile -t ftpnode-echolocal .

ARG GO_IMAGE=golang:1.26-bookworm
FROM --platform=${BUILDPLATFORM:-linux/amd64} ${GO_IMAGE} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS
ARG TARGETARCH
RUN CGO_ENABLED=0 GOOS=${TARGETOS:-linux} GOARCH=${TARGETARCH} go build -trimpath -buildvcs=false -o /out/echolocal ./cmd/echolocal \
    && mkdir -p /out/tmp /out/received

FROM scratch
COPY --from=build /out/echolocal /echolocal
COPY --from=build --chown=65532:65532 /out/tmp /tmp
COPY --from=build --chown=65532:65532 /out/received /received
USER 65532:65532
# Where objects of bulk storage are, also with --read-only.
VOLUME /tmp
EXPOSE 8080
ENTRYPOINT ["/echolocal"]
CMD ["-listen", "0.0.0.0:8080", "-host", "echolocal", "-received", "/received"]
