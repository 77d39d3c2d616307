# What the image `postgres` is where there is a registry: a cluster made at the first start, with
# the password from the environment and the scripts from /docker-entrypoint-initdb.d.
FROM python:3.13-slim
RUN apt-get update -qq \
 && apt-get install -qq -y --no-install-recommends postgresql postgresql-client \
 && rm -rf /var/lib/apt/lists/* && ln -s /usr/lib/postgresql/* /usr/lib/postgresql/here \
 && mkdir -p /var/lib/postgresql/data && chown postgres /var/lib/postgresql/data
ENV PATH="/usr/lib/postgresql/here/bin:${PATH}" PGDATA=/var/lib/postgresql/data
COPY postgres.sh /usr/local/bin/postgres.sh
ENTRYPOINT ["sh", "-eu", "/usr/local/bin/postgres.sh"]
