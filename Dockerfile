# Two stages: build with Go and a C compiler (SQLite), run on a small Debian. Both bases can be replaced:
#   docker build --build-arg BUILDER=… --build-arg RUNTIME=… -t postern .
# docs/DOCKER.md says how the image is used; ./build.sh image builds it where there is no engine and no registry.
ARG BUILDER=golang:1.26-bookworm
ARG RUNTIME=debian:bookworm-slim

FROM ${BUILDER} AS build
# Where modules come from, if not from where the go command would look.
ARG GOPROXY
WORKDIR /src
COPY . .
ARG VERSION=unknown
ARG COMMIT=unknown
ARG BUILD_TIME=unknown
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    go build -tags goolm -trimpath -buildvcs=false -o /postern \
    -ldflags "-s -w -X main.Tag=${VERSION} -X main.Commit=${COMMIT} -X main.BuildTime=${BUILD_TIME}" ./bridge

FROM ${RUNTIME}
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates ffmpeg \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1337 --user-group --no-create-home --home-dir /data --shell /usr/sbin/nologin postern \
    && install -d -m 700 -o postern -g postern /data
COPY --from=build /postern /usr/bin/postern
COPY LICENSE /usr/share/doc/postern/LICENSE
LABEL org.opencontainers.image.title="Postern" \
      org.opencontainers.image.description="A bridge between Matrix and the third-party chats of WhatsApp"
# By number, so that an orchestrator sees that it is not root.
USER 1337:1337
# All that is ever written: the root can be read-only.
VOLUME /data
WORKDIR /data
# 29340 is for the homeserver, 29341 for the gatekeeper (behind your HTTPS proxy).
EXPOSE 29340 29341
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 CMD ["/usr/bin/postern", "health"]
ENTRYPOINT ["/usr/bin/postern"]
# Writes the configuration at the first start, the registration at the second, and runs the bridge from then on.
CMD ["container"]
