#!/usr/bin/env bash
# Rotations of the unseen accents as one test set: every accent is in it where it was unseen.
#   local/pool.sh "ROTATIONS" CONFIG ["ARMS" ["SEEDS" [OPTION…]]]
# CONFIG is the recognisers' configuration as it stands in their folders' names, e.g.
# train_asr_conformer_digits; the first arm is the baseline; options go to
# espnet_saliency.scoring.compare. Writes rotations/pooled_CONFIG/index.html and comparison.json.
here=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")
if [ $# -lt 2 ]; then
    sed -n '2,6s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit 2
fi
rotations=$1 config=$2 arms=${3:-specaug none saliency random} seeds=${4:-1}
shift $(($# < 4 ? $# : 4))
. "$here/../../../path.sh" || exit 1
set -e
shopt -s nullglob
pooled=$here/rotations/pooled_$config
mkdir -p "$pooled/texts"

# pool FILE TABLE…: the lines of all tables, which share no utterance.
pool() {
    local file=$1
    shift
    cat -- "$@" | LC_ALL=C sort > "$file"
}

for table in text utt2spk utt2accent; do
    files=()
    for rotation in $rotations; do
        file=$here/rotations/$rotation/dump/raw/test_unseen/$table
        if [ ! -f "$file" ]; then
            echo "error: rotation $rotation: no $file: run it first" >&2
            exit 2
        fi
        files+=("$file")
    done
    pool "$pooled/texts/$table" "${files[@]}"
done
systems=()
for arm in $arms; do
    for seed in $seeds; do
        name=$arm
        [ "$seed" = 1 ] || name=${arm}_seed$seed
        files=()
        for rotation in $rotations; do
            found=("$here/rotations/$rotation/exp/asr_${config}_${name}_raw_"*/decode_*/test_unseen/text)
            if [ ${#found[@]} != 1 ]; then
                echo "error: rotation $rotation has ${#found[@]} decodings of $name, wanted is one:" \
                    "run it with --arms \"$arm\" --seeds \"$seed\" first" >&2
                exit 2
            fi
            files+=("${found[0]}")
        done
        pool "$pooled/texts/$name" "${files[@]}"
        systems+=("$arm=$pooled/texts/$name")
    done
done
exec python -P -m espnet_saliency.scoring.compare --reference "$pooled/texts/text" \
    --speakers "$pooled/texts/utt2spk" --accents "$pooled/texts/utt2accent" \
    --set unseen_accents --text none --out "$pooled" "$@" "${systems[@]}"
