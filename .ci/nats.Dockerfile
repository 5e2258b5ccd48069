# The server's binary from its wheel, and what the health check needs: for a place where no image registry can be reached.
ARG BASE
FROM ${BASE} AS base
FROM scratch
COPY --from=base /bin/busybox /bin/wget
COPY nats-server /nats-server
ENTRYPOINT ["/nats-server"]
