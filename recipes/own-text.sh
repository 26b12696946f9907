#!/usr/bin/env bash
# From a folder of your own text and a labelled file to a BERT, a classifier and vectors, by the shortest command lines.
#
#   recipes/own-text.sh MY_TEXTS/ my-train.csv my-test.csv OUT
#
# my-train.csv and my-test.csv have columns text and label. With about a million words, tiny and a few minutes a step show
# whether the path works; for a model worth keeping take --preset small or more, and hours (docs/results.md).
set -euo pipefail
texts=$1 train=$2 test=$3 out=$4

bertlab prepare  --source "$texts" --out "$out/corpus"
bertlab pretrain --config configs/pretrain/minutes.yaml --corpus "$out/corpus" --out "$out/pretrained"
bertlab finetune --model "$out/pretrained/model" --train "$train" --test "$test" --out "$out/finetuned"
bertlab evaluate --model "$out/finetuned/model" --data "$test" --out "$out/evaluation"
bertlab embed    --model "$out/pretrained/model" --input "$test" --output "$out/vectors.parquet"
