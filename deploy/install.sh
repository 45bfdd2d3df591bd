#!/bin/sh
# Installs what it is told from the wheels in /wheels: install.sh REQUIREMENT ... What it makes is for /opt/penstock of an
# image, and lies in /layer/opt/penstock.
#
# Two runs make the same files. What Python compiles goes by the text of a module and not by its time, and is not compared
# with it later, since images are read-only; and all files have one time.
set -eu
python -m venv --without-pip /opt/penstock
pip --python /opt/penstock/bin/python install --no-compile --no-index --find-links /wheels "$@"
PYTHONHASHSEED=0 python -m compileall -q --invalidation-mode unchecked-hash /opt/penstock/lib
mkdir -p /layer/opt
mv /opt/penstock /layer/opt/
find /layer -exec touch --no-dereference --date=@315532800 {} +
