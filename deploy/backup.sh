#!/bin/sh
# Writes the data of the installation of compose.yaml into a folder: deploy/backup.sh /backups/2026-11-29
#
# Redis and the object store belong together, so that everything stops meanwhile, and then starts again. The secrets are
# in the folder too: keep it closed. COMPOSE is the command of Compose with its options, `docker compose` by default.
set -eu
: "${1:?usage: deploy/backup.sh FOLDER}"
mkdir -p "$1" && chmod 0700 "$1"
to=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
compose() { ${COMPOSE:-docker compose} "$@"; }

trap 'compose start' EXIT
compose stop
for service in redis objects; do
  # The volumes are those of the container: one of a wrong name would be made, and be saved empty.
  docker run --rm --user 0 --entrypoint tar --volumes-from "$(compose ps -aq $service):ro" -v "$to":/to \
    valkey/valkey:8.1-alpine -C /data -cf "/to/$service.tar" .
done
tar -C deploy -cf "$to/secrets.tar" secrets

tar -tf "$to/redis.tar" | grep -q appendonlydir
tar -tf "$to/objects.tar" | grep -q filerldb
echo "complete: $to"
