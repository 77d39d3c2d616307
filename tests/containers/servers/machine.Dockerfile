# A server as Debian installs it: systemd runs it, and Seawall is in an environment of its own.
FROM python:3.13-slim
RUN apt-get update -qq \
 && apt-get install -qq -y --no-install-recommends systemd systemd-sysv procps \
 && rm -rf /var/lib/apt/lists/*
COPY requirements.lock wheels /tmp/
RUN python3 -m venv /opt/seawall \
 && /opt/seawall/bin/pip install -q --no-deps --require-hashes -r /tmp/requirements.lock \
 && /opt/seawall/bin/pip install -q --no-deps --no-index /tmp/*.whl
ENV PATH="/opt/seawall/bin:${PATH}"
CMD ["/sbin/init"]
