# Culvert in a small image: the program, the C library that it needs, certificates of public authorities, nothing else.
# No shell, no package manager; it runs as user 65532 and needs to write nowhere but to /var/lib/culvert and /tmp.
#
#   docker build -t culvert .                     compiles the program from these sources
#   docker build -t culvert --target prebuilt .   takes target/release/culvert, built on this host for Debian 12 or the like;
#                                                 another one with --build-arg BINARY=target/debug/culvert

ARG RUST=1.95-bookworm

FROM rust:${RUST} AS build
WORKDIR /src
COPY . .
# Downloads and what was compiled outlast the build, so that the next one compiles what has changed.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    --mount=type=cache,target=/src/plugins/target \
    cargo xtask plugins \
 && cargo build --locked --release --package culvert \
 && cp target/release/culvert /culvert

# What stands around the program.
FROM debian:bookworm-slim AS around
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends ca-certificates >/dev/null \
 && rm -rf /var/lib/apt/lists/* \
 && mkdir -p /image/etc/ssl/certs /image/etc/culvert /image/tmp /state \
 && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ \
 && echo 'culvert:x:65532:65532::/:/none' >/image/etc/passwd \
 && echo 'culvert:x:65532:' >/image/etc/group \
 && echo 'hosts: files dns' >/image/etc/nsswitch.conf \
 && chmod 1777 /image/tmp

# The program and the libraries that it names.
FROM around AS from-sources
COPY --from=build /culvert /image/usr/bin/culvert
RUN ldd /image/usr/bin/culvert | grep -o '/[^ ]*' | xargs cp --parents -L -t /image

FROM around AS from-host
ARG BINARY=target/release/culvert
COPY ${BINARY} /image/usr/bin/culvert
RUN ldd /image/usr/bin/culvert | grep -o '/[^ ]*' | xargs cp --parents -L -t /image

FROM scratch AS empty
COPY --from=around --chown=65532:65532 /state /var/lib/culvert
USER 65532:65532
VOLUME /var/lib/culvert
EXPOSE 7443/udp 9464/tcp
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/culvert"]
CMD ["run"]

FROM empty AS prebuilt
COPY --from=from-host /image /

FROM empty AS runtime
COPY --from=from-sources /image /
