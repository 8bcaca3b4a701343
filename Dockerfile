# filestored in a container: unprivileged, content with a read-only root file system, the store a
# volume. `docker build -t filestored .`, then see compose.yaml, or:
#   docker run -d -p 9000:9000 -v files:/data --read-only --cap-drop ALL filestored

# Any image with Python 3.11 or newer.
ARG BASE=python:3.13-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
# A build without a network finds its wheels there, given --build-arg PIP_NO_INDEX=1.
ARG PIP_FIND_LINKS=/src/wheelhouse
ARG PIP_NO_INDEX
COPY . .
RUN python3 -m venv /opt/filestored \
    && /opt/filestored/bin/pip install --no-cache-dir --disable-pip-version-check ".[postgresql]" \
    && /opt/filestored/bin/pip uninstall --yes --quiet setuptools pip

FROM ${BASE}
LABEL org.opencontainers.image.title="filestored" \
      org.opencontainers.image.description="POST a file over HTTP and get its hash, GET it back" \
      org.opencontainers.image.licenses="MIT"
# A number of its own, that no user of the host is likely to have.
RUN groupadd --system --gid 9473 filestored \
    && useradd --system --uid 9473 --gid 9473 --home-dir /data --no-create-home \
       --shell /usr/sbin/nologin filestored \
    && install --directory --owner 9473 --group 9473 --mode 0750 /data
COPY --from=build /opt/filestored /opt/filestored
# The pidfile is in the volume: nothing else has to be writable, and its lock keeps a second
# container from serving the same store.
ENV PATH=/opt/filestored/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    FILESTORED_STORE=/data \
    FILESTORED_PIDFILE=/data/.filestored.pid
WORKDIR /data
USER 9473:9473
VOLUME /data
EXPOSE 9000
# Drain: finish what is under way. Docker waits 10 s by itself (docker stop -t, stop_grace_period).
STOPSIGNAL SIGTERM
# An exit code other than 0 and 1 would mean nothing to it.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s \
    CMD ["sh", "-c", "filestored status || exit 1"]
ENTRYPOINT ["filestored"]
CMD ["run"]
