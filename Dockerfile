# One image for KFP components, Ray heads and Ray workers. VARIANT is cuda or cpu; they differ in torch alone, whose
# CUDA wheel brings the CUDA runtime with it. make image gives the arguments.
ARG VARIANT=cuda

FROM python:3.11.14-slim-bookworm AS torch-cpu
ENV TORCH_INDEX=https://download.pytorch.org/whl/cpu

FROM python:3.11.14-slim-bookworm AS torch-cuda
ENV TORCH_INDEX=https://pypi.org/simple

# hadolint ignore=DL3006
FROM torch-${VARIANT} AS build
ARG RAY_VERSION=2.60.0
ENV PATH=/opt/prefopt/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY constraints.txt ./
RUN python -m venv /opt/prefopt \
    && pip install --no-deps --index-url "$TORCH_INDEX" --constraint constraints.txt torch
# What prefopt needs is a layer of its own, which changes of its code leave alone. Nothing of the empty package may stay:
# setuptools would not replace a built file with an older one.
COPY pyproject.toml README.md LICENSE ./
RUN mkdir prefopt && touch prefopt/__init__.py \
    && pip install --constraint constraints.txt '.[kubeflow,s3]' \
    && pip check \
    && python -c "import importlib.metadata as m; assert m.version('ray') == '$RAY_VERSION', m.version('ray')" \
    && rm -rf prefopt prefopt.egg-info build
COPY prefopt ./prefopt
RUN pip install --no-deps --force-reinstall .

FROM python:3.11.14-slim-bookworm AS runtime
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG RAY_VERSION=2.60.0
LABEL org.opencontainers.image.title="prefopt" \
      org.opencontainers.image.description="Align text-to-image diffusion models with human preferences" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.prefopt.ray-version="${RAY_VERSION}"
# wget is what KubeRay's probes may call; Debian keeps no old versions that a pin could name. An operator that starts
# login shells would lose PATH without the profile.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends wget \
    && rm -rf /var/lib/apt/lists/* \
    && echo "export PATH=/opt/prefopt/bin:\$PATH" > /etc/profile.d/prefopt.sh \
    && groupadd --gid 10001 prefopt \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /bin/bash prefopt
COPY --from=build /opt/prefopt /opt/prefopt
# Nothing but /tmp and mounted volumes is written to: the root file system may be read-only. Devices are not named
# here: a pod without a GPU request must not see one. The MALLOC_ variables are those of a local Ray's workers.
ENV PATH=/opt/prefopt/bin:$PATH \
    HOME=/tmp \
    XDG_CACHE_HOME=/tmp/cache \
    HF_HOME=/tmp/cache/huggingface \
    TORCHINDUCTOR_CACHE_DIR=/tmp/cache/inductor \
    TRITON_CACHE_DIR=/tmp/cache/triton \
    MPLCONFIGDIR=/tmp/cache/matplotlib \
    RAY_TMPDIR=/tmp \
    RAY_USAGE_STATS_ENABLED=0 \
    MALLOC_MMAP_THRESHOLD_=1073741824 \
    MALLOC_TRIM_THRESHOLD_=1073741824 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PREFOPT_RAY_VERSION=${RAY_VERSION}
WORKDIR /tmp
USER 10001:10001
ENTRYPOINT ["prefopt"]
CMD ["--help"]
