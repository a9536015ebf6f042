# Two stages: build with Go and a C compiler (SQLite), run on a small Debian.
# Both bases can be replaced: --build-arg BUILDER=… --build-arg RUNTIME=…
ARG BUILDER=golang:1.26-bookworm
ARG RUNTIME=debian:bookworm-slim

FROM ${BUILDER} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=unknown
ARG COMMIT=unknown
ARG BUILD_TIME=unknown
RUN go build -tags goolm -trimpath -o /postern \
    -ldflags "-s -w -X main.Tag=${VERSION} -X main.Commit=${COMMIT} -X main.BuildTime=${BUILD_TIME}" ./bridge

FROM ${RUNTIME}
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates ffmpeg \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1337 --user-group --home-dir /data --shell /usr/sbin/nologin postern \
    && install -d -o postern -g postern /data
COPY --from=build /postern /usr/bin/postern
COPY bridge/docker-run.sh /usr/bin/docker-run.sh
USER postern
VOLUME /data
WORKDIR /data
# 29340 is for the homeserver, 29341 for the gatekeeper (behind your HTTPS proxy).
EXPOSE 29340 29341
ENTRYPOINT ["/usr/bin/docker-run.sh"]
