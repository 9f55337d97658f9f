# Two images from one file:
#   docker build --target server -t facemargin .          the service, without torch (the default)
#   docker build --target train  -t facemargin-train .    the training, with torch
#
# Only the export of the networks needs torch in the server's build, and a CPU build of torch is enough there.
# Where pip's default index would bring a CUDA build of several GB, name a source of CPU wheels:
#   --build-arg PIP_EXTRA_INDEX_URL=...   or   --build-arg PIP_FIND_LINKS=...

FROM python:3.11-slim AS base
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1

# The service's dependencies, apart from its code: a change of code does not install them again.
FROM base AS dependencies
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY pyproject.toml ./
RUN python3 -m venv /opt/venv \
 && python -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
extras = project["optional-dependencies"]; \
print(*project["dependencies"], *extras["serve"], *extras["postgres"], sep="\n", file=open("serve.txt", "w")); \
print(*project["dependencies"], *extras["train"], sep="\n", file=open("train.txt", "w")); \
print(*(line for line in extras["train"] if line.startswith("torch>")), file=open("torch.txt", "w"))' \
 && python -m pip install -r serve.txt \
 # OpenVINO reports its use to its maker unless this package is absent; a face service reports nothing.
 && python -m pip uninstall --yes openvino-telemetry

FROM dependencies AS installed
COPY . .
RUN python -m pip install --no-deps .

# The shipped checkpoints as OpenVINO graphs. torch stays behind in this stage.
FROM dependencies AS graphs
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
RUN python -m pip install -r torch.txt
COPY . .
RUN python -m pip install --no-deps . \
 && FACEMARGIN_DATA_DIR=/tmp/data FACEMARGIN_CACHE_DIR=/opt/graphs facemargin doctor

FROM base AS server
LABEL org.opencontainers.image.title="facemargin" \
      org.opencontainers.image.description="Self-hosted face recognition: verify, enrol, identify" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=installed /opt/venv /opt/venv
COPY --from=graphs /opt/graphs /opt/graphs
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp facemargin \
 && install -d -o facemargin -g facemargin -m 700 /data
ENV HOME=/tmp \
    FACEMARGIN_HOST=0.0.0.0 \
    FACEMARGIN_PORT=8000 \
    FACEMARGIN_DATA_DIR=/data \
    FACEMARGIN_CACHE_DIR=/opt/graphs
USER facemargin
WORKDIR /data
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"FACEMARGIN_PORT\"]}/readyz', timeout=4).close()"]
CMD ["facemargin", "serve"]

FROM base AS train-dependencies
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY --from=dependencies /src/train.txt ./
RUN python3 -m venv /opt/venv && python -m pip install -r train.txt
COPY . .
RUN python -m pip install --no-deps .

FROM base AS train
LABEL org.opencontainers.image.title="facemargin-train" \
      org.opencontainers.image.description="Training of face recognition and detection networks" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=train-dependencies /opt/venv /opt/venv
COPY training/configs /srv/training/configs
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp facemargin \
 && install -d -o facemargin -g facemargin /srv/runs
# torch and matplotlib keep caches; the root file system may be read-only, and the user may be any.
ENV HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib TORCHINDUCTOR_CACHE_DIR=/tmp/inductor
USER facemargin
WORKDIR /srv
VOLUME /srv/runs
STOPSIGNAL SIGTERM
ENTRYPOINT ["facemargin", "train"]
CMD ["--help"]

# What `docker build .` makes when no target is named.
FROM server
