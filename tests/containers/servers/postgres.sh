chown postgres "$PGDATA"
as_postgres() { setpriv --reuid postgres --regid postgres --init-groups "$@"; }
if [ ! -e "$PGDATA/PG_VERSION" ]; then
    echo "$POSTGRES_PASSWORD" > /tmp/password
    as_postgres initdb -U postgres -A scram-sha-256 --pwfile=/tmp/password --no-sync >/dev/null
    rm /tmp/password
    echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
    # Without an address nobody takes it for the one that is to stay.
    as_postgres pg_ctl -w -o "-c listen_addresses=" start
    for script in /docker-entrypoint-initdb.d/*.sql; do
        PGPASSWORD=$POSTGRES_PASSWORD psql -U postgres -h /var/run/postgresql -f "$script"
    done
    as_postgres pg_ctl -w stop
fi
exec setpriv --reuid postgres --regid postgres --init-groups postgres -c "listen_addresses=*"
