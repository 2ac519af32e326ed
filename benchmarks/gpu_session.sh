#!/usr/bin/env bash
# What a short time on a GPU is used for: tests, throughput, then the trainings of the shipped descriptors, side by side.
#
#   benchmarks/gpu_session.sh DATA OUT MINUTES
#
# DATA holds photos.h5 and scenes.h5 (pipelines.pack_views), disk.pth (DISK's depth-save.pth), and the folders fixed/ and
# sessions/ with one folder for each fixed camera or view. OUT gets weights every half minute and all logs. Of an H100's
# fifteen minutes: install one, tests and throughput one, trainings twelve. Steps are for that card; MINUTES is a limit
# for the trainings.
set -uo pipefail
data=$(realpath "$1") out=$(realpath -m "$2") limit=$(($3 * 60))
root=$(cd "$(dirname "$0")/.." && pwd)
export PYTHONPATH=$root PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1
cd "$root"
runs=$(mktemp -d) && mkdir -p "$out" "$runs/light"
nvidia-smi --query-gpu=name --format=csv,noheader

# Fixed cameras and sessions are aligned by DISK on the GPU, one process for each folder.
for kind in fixed sessions; do
  for folder in "$data/$kind"/*/; do
    name=$(basename "$folder")
    mkdir -p "$runs/light/$name"
    python3 -m pipelines.pack_views "--$kind" "$folder" --feature disk --weights "$data/disk.pth" \
      --output "$runs/light/$name/views.h5" >"$runs/light/$name.log" 2>&1 &
  done
done
python3 -m pytest -q -p no:cacheprovider tests/runtime/test_computation.py tests/networks tests/detection tests/matchers 2>&1 | tail -3
wait
python3 benchmarks/gpu_throughput.py | tee "$out/throughput.jsonl"

held="een_07_heidelberg een_02_lund_courtyard porto_clerigos delhi_india_gate nature"
dark="bgscam_v3 bgscam_v7 grief_stromovka_p2 grief_michigan_p3"
packs="$data/photos.h5 $data/scenes.h5"
light=$(ls "$runs"/light/*/views.h5)
train="python3 -m pipelines.train_descriptors --quiet"
collect() {
  for name in small resnet18 hardnet; do
    [ -f "$runs/$name/weights.safetensors" ] && cp "$runs/$name/weights.safetensors" "$out/$name.safetensors"
  done
  tar czf "$out/logs.tar.gz" -C "$runs" $(cd "$runs" && ls -d ./*.log ./*/log.jsonl 2>/dev/null)
}
while sleep 30; do collect; done &
collector=$!
# Average each with its start afterwards (posfeat-hloc weights average) and choose the share on held-out photographs:
# posfeat_training.md says why.
timeout "$limit" $train --pack $packs $light --held-out $held $dark --init posfeat-small --teacher "$data/disk.pth" \
  --teacher-stride 2 --single 16 --fixed 8 --model 12 --cell 4 --safe-radius 4 --points 512 --relight 0.7 --upright 0.7 \
  --pose-contrast 0.3 --frozen-statistics --learning-rate 5e-4 --steps 3500 \
  --output "$runs/small" >"$runs/small.log" 2>&1 &
timeout "$limit" $train --pack $packs --held-out $held --init posfeat --single 14 --fixed 0 --model 6 --no-tracks \
  --pose-contrast 1 --cell 4 --safe-radius 4 --points 512 --relight 0.5 --frozen-statistics --learning-rate 5e-4 \
  --steps 2500 --output "$runs/resnet18" >"$runs/resnet18.log" 2>&1 &
timeout "$limit" $train --pack $packs $light --held-out $held $dark --init hardnet --single 10 --fixed 5 --model 7 \
  --upright 0.6 --softmax 0.5 --triplet 1 --steps 1500 \
  --output "$runs/hardnet" >"$runs/hardnet.log" 2>&1 &
while pgrep -f pipelines.train_descriptors >/dev/null; do sleep 2; done
kill $collector
collect
tail -n 1 "$runs"/*.log
