# syntax=docker/dockerfile:1

# The web app; it compiles the TypeScript client in from its source.
FROM node:24-bookworm-slim AS web
WORKDIR /src
COPY web-demo/package.json web-demo/package-lock.json web-demo/.npmrc web-demo/
RUN --mount=type=cache,target=/root/.npm npm ci --prefix web-demo
COPY sdk/js sdk/js
COPY web-demo web-demo
RUN npm run --prefix web-demo build

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY benches benches
COPY migrations migrations
COPY src src
COPY --from=web /src/web-demo/dist web-demo/dist
# What is downloaded is kept between builds. What is compiled is not: cargo goes by the times of files, and a checkout's are
# older than a cached build's, so that it could take an old program for the new one.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    cargo build --locked --release --bin permcast \
 && install -D target/release/permcast /out/permcast \
 && install -d /out/data

# No shell and no package manager, not root, and nothing to write to but /data: fit for a read-only file system.
# Without a shell there is no HEALTHCHECK either: ask /readyz from outside, as the load balancer does.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/permcast /usr/local/bin/permcast
COPY --from=build --chown=65532:65532 /out/data /data
ENV PERMCAST_LISTEN=0.0.0.0:8080 \
    PERMCAST_DATABASE_URL=sqlite:///data/permcast.db
WORKDIR /data
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/permcast"]
CMD ["serve"]
