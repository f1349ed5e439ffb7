#!/bin/sh
# run.sh BUILD SECONDS: every fuzz target of BUILD for SECONDS each, from the seeds that the test data holds.
# Findings stay in BUILD/findings; the corpus grows in BUILD/corpus and may be kept between runs.
set -eu
build=$1
seconds=$2
data=${SACCADE_TEST_DATA:-../shared/data}

for target in "$build"/fuzz_*; do
    name=${target##*/fuzz_}
    mkdir -p "$build/corpus/$name" "$build/findings/$name"
    case $name in
    image | exif) seeds="$data/hostile $data/exif tests/fixtures/images" ;;
    *) seeds= ;;
    esac
    for folder in $seeds; do
        [ -d "$folder" ] || { echo "fuzz: no seeds at $folder: starting $name from nothing" >&2; seeds=; }
    done
    words=
    [ -f "tests/fuzz/$name.dict" ] && words=-dict=tests/fuzz/$name.dict
    echo "fuzz: $name for $seconds s" >&2
    # shellcheck disable=SC2086
    "$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=1024 -max_len=65536 \
        -artifact_prefix="$build/findings/$name/" -print_final_stats=1 $words "$build/corpus/$name" $seeds
done
