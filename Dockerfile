# The application: router, pools and every other command, as `dspex …`.
# Where a registry cannot be reached: name a base you have, put wheels in build/wheels and build with
# --build-arg PIP_NO_INDEX=1 --build-arg PIP_FIND_LINKS=build/wheels.
# To compile what every step passes through, build where there is a C compiler for the same Python:
# --build-arg BUILD_BASE=python:3.12 --build-arg HATCH_BUILD_HOOK_ENABLE_CUSTOM=1
ARG BASE=python:3.12-slim
ARG BUILD_BASE=${BASE}

FROM ${BUILD_BASE} AS build
ARG EXTRAS=dspy,search,speed
ARG HATCH_BUILD_HOOK_ENABLE_CUSTOM
ARG PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_NO_INDEX PIP_FIND_LINKS
WORKDIR /src
COPY . .
RUN python3 -m venv /opt/dspex \
 && /opt/dspex/bin/pip install -q --no-cache-dir --disable-pip-version-check -c constraints.txt ".[${EXTRAS}]"

FROM ${BASE}
COPY --from=build /opt/dspex /opt/dspex
# Users' own modules are found in /app. What libraries insist on writing goes to /tmp: the rest may be read-only.
ENV PATH=/opt/dspex/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
WORKDIR /app
USER 10001:10001
ENTRYPOINT ["dspex"]
CMD ["--help"]
