#!/usr/bin/env bash
# Rotations of the unseen accents as one test set: every accent is in it where it was unseen.
#   [set=SET] local/pool.sh "ROTATIONS" CONFIG ["ARMS" ["SEEDS" [OPTION…]]]
# CONFIG is the recognisers' configuration as it stands in their folders' names, e.g.
# train_asr_conformer_digits; the first arm is the baseline; options go to
# espnet_saliency.scoring.compare. SET is test_unseen where `set` does not say otherwise; of a set that
# is the same in every rotation (accents that none was trained on) there is one copy, and each rotation's
# recogniser counts as one more training of its arm.
# Writes rotations/pooled_CONFIG/SET/index.html and comparison.json.
here=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")
if [ $# -lt 2 ]; then
    sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit 2
fi
rotations=$1 config=$2 arms=${3:-specaug none saliency random} seeds=${4:-1} set=${set:-test_unseen}
shift $(($# < 4 ? $# : 4))
. "$here/../../../path.sh" || exit 1
set -e
shopt -s nullglob
pooled=$here/rotations/pooled_$config/$set

# pool FILE TABLE…: the lines of all tables, once each.
pool() {
    local file=$1
    shift
    cat -- "$@" | LC_ALL=C sort -u > "$file"
}

for table in text utt2spk utt2accent; do
    files=()
    for rotation in $rotations; do
        file=$here/rotations/$rotation/dump/raw/$set/$table
        if [ ! -f "$file" ]; then
            echo "error: rotation $rotation: no $file: run it first" >&2
            exit 2
        fi
        files+=("$file")
    done
    mkdir -p "$pooled/texts"
    pool "$pooled/texts/$table" "${files[@]}"
done
one_copy=
cmp -s "$pooled/texts/text" "${files[0]%/*}/text" && one_copy=true
systems=()
for arm in $arms; do
    for seed in $seeds; do
        name=$arm
        [ "$seed" = 1 ] || name=${arm}_seed$seed
        files=()
        for rotation in $rotations; do
            found=("$here/rotations/$rotation/exp/asr_${config}_${name}_raw_"*/decode_*/"$set"/text)
            if [ ${#found[@]} != 1 ]; then
                echo "error: rotation $rotation has ${#found[@]} decodings of $name on $set, wanted is" \
                    "one: run it with --arms \"$arm\" --seeds \"$seed\" first" >&2
                exit 2
            fi
            files+=("${found[0]}")
        done
        if [ "$one_copy" ]; then
            systems+=("${files[@]/#/$arm=}")
        else
            pool "$pooled/texts/$name" "${files[@]}"
            systems+=("$arm=$pooled/texts/$name")
        fi
    done
done
exec python -P -m espnet_saliency.scoring.compare --reference "$pooled/texts/text" \
    --speakers "$pooled/texts/utt2spk" --accents "$pooled/texts/utt2accent" \
    --set unseen_accents --text none --out "$pooled" "$@" "${systems[@]}"
