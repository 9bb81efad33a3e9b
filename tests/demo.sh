#!/bin/sh
# The first minutes with litml, in a temporary folder: new, export, test, build.
# Run it by `make demo`, which sets up the environment. Any failure stops it.
set -eu

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

run() {
    echo
    echo "\$ $*"
    "$@"
}

cd "$work"
run litml new tiny-classifier --yes
cd tiny-classifier
# The package is made from the notebooks: what is lost comes back
run rm tiny_classifier/core.py tiny_classifier/train.py
run litml export
run litml export --check
run python -m pytest -q
run litml build

echo
echo "What this did, in a temporary folder that is gone now:"
echo "- made a small machine-learning library of $(ls nbs | wc -l | tr -d ' ') notebooks,"
echo "- exported them to $(ls tiny_classifier/*.py | wc -l | tr -d ' ') modules of $(cat tiny_classifier/*.py | wc -l | tr -d ' ') lines,"
echo "- ran every cell of them as a test,"
echo "- built $(cd dist && ls *.whl), installed it in a fresh environment and imported each module."
echo "Your own: $(command -v litml) new NAME"
