# One image for all of Airflow's components, with the programs that build and scan on a worker. See docker-compose.yml.
ARG BASE=apache/airflow:3.3.2-python3.11
# Trivy's own image, by digest: a tag can be moved, as in March 2026. docs/trivy.md explains how to verify another one.
ARG TRIVY=docker.io/aquasec/trivy:0.75.0@sha256:af6acf9a6b85dfe389a1941505c0ce9efef52a4719635e1a962f022a3d855daa

FROM ${TRIVY} AS trivy

FROM ${BASE} AS packages
USER root
# In the base image, pip writes below the user's home; here, it writes to separate environments.
ENV PIP_USER=false PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
WORKDIR /src
COPY requirements.lock ./
# Every file is checked against the hashes in the lock here; the steps below see only these files.
RUN python -m venv /opt/tools \
    && /opt/tools/bin/pip download -q --require-hashes --no-deps --only-binary :all: -d /wheels -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY plugins plugins
COPY dags dags
COPY chain_specs chain_specs
COPY docs/events/post-receive docs/events/post-receive
RUN /opt/tools/bin/pip install -q --no-index --find-links /wheels hatchling \
    && /opt/tools/bin/pip wheel -q --no-deps --no-build-isolation --no-index -w /wheels .
# Install only what the wheel needs, at the locked versions, in an environment without the base image's packages; of the
# extra [sandbox], only the database driver. Airflow starts several times faster from bytecode.
RUN python -m venv /opt/delivery-chain \
    && env -u PYTHONDONTWRITEBYTECODE /opt/delivery-chain/bin/pip install -q --compile --no-index \
       --find-links /wheels airflow-delivery-chain apache-airflow-providers-postgres \
    && /opt/delivery-chain/bin/pip check

FROM ${BASE}
USER root
# buildah and runc have to be below /usr: the root folder of a build contains /usr and little else
# (docs/build-isolation.md).
RUN apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
       buildah runc slirp4netns uidmap git libcap2-bin \
    && rm -rf /var/lib/apt/lists/* \
# In a container, these two programs can't write the map of a user namespace with Debian's set-uid bit, but they can
# with just the one capability that they need.
    && chmod u-s /usr/bin/newuidmap /usr/bin/newgidmap \
    && setcap cap_setuid+ep /usr/bin/newuidmap \
    && setcap cap_setgid+ep /usr/bin/newgidmap \
    && echo airflow:300000:65536 >>/etc/subuid \
    && echo airflow:300000:65536 >>/etc/subgid
COPY --from=trivy /usr/local/bin/trivy /usr/local/bin/trivy
ENV PATH=/opt/delivery-chain/bin:${PATH} PIP_USER=false
COPY --from=packages /opt/delivery-chain /opt/delivery-chain
COPY dags /opt/airflow/dags
COPY chain_specs /opt/airflow/chain_specs
# A new named volume takes its owner from the folder that it is mounted on.
RUN env -u PYTHONDONTWRITEBYTECODE python -m compileall -q /opt/airflow/dags \
    && for name in work trivy login; do install -d -o airflow -g 0 -m 0770 "/var/lib/delivery-chain/$name"; done \
    && install -d -o airflow -g 0 -m 0775 /srv/git
ENV AIRFLOW__CORE__DAGS_FOLDER=/opt/airflow/dags \
    AIRFLOW__DELIVERY_CHAIN__SPECS_FOLDER=/opt/airflow/chain_specs \
    AIRFLOW__DELIVERY_CHAIN__WORK_FOLDER=/var/lib/delivery-chain/work \
    AIRFLOW__DELIVERY_CHAIN__TRIVY_CACHE_DIR=/var/lib/delivery-chain/trivy
USER airflow
WORKDIR /opt/airflow
