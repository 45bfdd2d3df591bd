# Penstock's front door. `just` lists the recipes.

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

# lint, format check and types; under a minute
[group('develop')]
check:
    {{ python }} -m ruff check --output-format concise .
    {{ python }} -m ruff format --check -q .
    {{ python }} -m mypy

# put the code into the house format
[group('develop')]
fmt:
    {{ python }} -m ruff check --fix -q .
    {{ python }} -m ruff format -q .

# run the tests; arguments go to pytest: just test tests/unit -x
[group('develop')]
test *args:
    {{ python }} -m pytest -q {{ args }}

# the size and order of the code, beside the bars that it is held to: just house --list
[group('develop')]
house *args:
    {{ python }} -m tools.house {{ args }}

# run everything on this machine in the foreground
[group('run')]
dev *args:
    {{ python }} -m penstock up {{ args }}

# upscale and score a photo, then stop: just demo my.jpg
[group('run')]
demo *args:
    {{ python }} -m penstock demo -o out {{ args }}

# start workers for the devices of this host against REDIS_URL
[group('run')]
worker *args:
    {{ python }} -m penstock worker {{ args }}

# start the containers: API, worker, Redis, MinIO, Prometheus, Grafana
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

# restart the API and the workers, which finish what they have first
[group('deploy')]
restart:
    {{ compose }} restart api worker

# what runs, and whether it is ready
[group('deploy')]
status url="http://127.0.0.1:8000":
    -{{ compose }} ps
    {{ python }} -c 'import sys, httpx; r = httpx.get(sys.argv[1] + "/readyz"); print(r.status_code, r.text)' {{ url }}

# where the Grafana dashboard is
[group('deploy')]
dashboard:
    @echo "http://127.0.0.1:3000/d/penstock (user admin, password GRAFANA_PASSWORD of your .env)"

# measure both models beside a bare loop, then the server alone: one client, a burst, a batch; just bench --tasks 100
[group('measure')]
bench *args:
    {{ python }} -m penstock bench --model superres-x4 {{ args }}
    {{ python }} -m penstock bench --model image-scoring-v1 --tasks 300 {{ args }}
    {{ python }} -m penstock bench --model noop-v1 --tasks 300 --clients 1 {{ args }}
    {{ python }} -m penstock bench --model noop-v1 --tasks 1000 --rate inf {{ args }}
    {{ python }} -m penstock bench --model noop-v1 --tasks 1000 --batch {{ args }}

# the long forms of what the default run does in short: every size of every network, thousands of made-up histories
[group('measure')]
at-length *args:
    HYPOTHESIS_PROFILE=nightly {{ python }} -m pytest -q -n auto -m "" tests/models tests/unit/test_device_order.py tests/store/test_model_based.py tests/store/test_fair_device_time.py {{ args }}

# kill, freeze and cut off processes under load, and judge the history: just chaos --scenario W1 --tasks 1000
[group('measure')]
chaos *args:
    {{ python }} -m tests.chaos {{ args }}

# callers that share something, in every order of their calls: just interleave --seed 7; just interleave --replay '...'
[group('measure')]
[positional-arguments]
interleave *args:
    {{ python }} -m tests.interleave --all "$@"

# everybody at once, by chance, with a clock that jumps: just stress --seconds 600 --seed 7
[group('measure')]
stress *args:
    {{ python }} -m tests.stress {{ args }}

# take out each guard in a copy, and run what has to fail then: just mutations --only fence
[group('measure')]
[positional-arguments]
mutations *args:
    {{ python }} -m tests.mutations "$@"

# how long each script of the store holds Redis in its worst case: just script-times --only settle,claim
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

# lint the OpenAPI document, generate clients in Python and TypeScript from it and let them work, and run Replicate's npm client; needs npm's registry
[group('measure')]
clients:
    {{ python }} -m pytest -q -m clients tests/clients

# build the wheel, install it in a fresh environment, check a typed program against it and run the demo from it
[group('measure')]
package:
    {{ python }} -m pytest -q -m package tests/package

# rebuild the shipped models from their sources and compare them byte for byte
[group('measure')]
models:
    {{ python }} -m tools.convert --check

# build the container images where an engine runs, and check compose files
[group('measure')]
containers:
    {{ python }} -m pytest -q -rs tests/containers

# freeze Redis under a real Prometheus with the shipped rules, and see it page; needs prometheus on the path
[group('measure')]
alerts:
    {{ python }} -m pytest -q -rs -s -m alerts tests/alerts

# open the docs page in a real browser, where there is one
[group('measure')]
browser:
    {{ python }} -m pytest -q -rs tests/browser

# the tests that need a CUDA device, and a table of its times
[group('measure')]
gpu:
    {{ python }} -m pytest -q -rs -s -m gpu tests
