#!/usr/bin/env bash
# Fine-tuning, as the published claim is about: a recogniser trained on native speech alone (other
# speakers and sentences) is trained on with eight accents, by each arm.
#   [native="ACCENTS"] local/finetune.sh NAME "UNSEEN ACCENTS" ["ARMS" ["SEEDS" [OPTION…]]]
# NAME is the folder of this rotation of the unseen accents, rotations/NAME; options go to run.sh. The
# native recogniser is trained on American, British and Scottish speech where `native` does not say
# otherwise. On two cores about 10 minutes for it, and 4 for each arm and seed.
here=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")
if [ $# -lt 2 ]; then
    sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit 2
fi
name=$1 unseen=$2 arms=${3:-specaug none saliency random accent_mix} seeds=${4:-1}
shift $(($# < 4 ? $# : 4))
native=${native:-american british scottish}
rotations=$here/rotations
first=$rotations/native_${native// /_}

# Runs the recipe with all that it makes in one folder.
recipe_in() {
    local folder=$1
    shift
    "$here/run.sh" --corpus_dir "$folder/corpus" --datadir "$folder/data" --dumpdir "$folder/dump" \
        --expdir "$folder/exp" "$@"
}

train_native() {
    recipe_in "$first" --accents "$native" --unseen_accents "" --test_sets test --train_speakers 100 \
        --dev_speakers 10 --corpus_seed 9 --arms specaug \
        --asr_config "$here/conf/train_asr_conformer_native.yaml" "$@"
}

set -e
# Nothing to classify in it: stages 7 to 9 are for the accents of the fine-tuning.
train_native --stop_stage 6
train_native --stage 10 --stop_stage 13
recipe_in "$rotations/$name" --unseen_accents "$unseen" --arms "$arms" --seeds "$seeds" \
    --pretrained_model "$first/exp/asr_train_asr_conformer_native_specaug_raw_en_bpe80" \
    --asr_config "$here/conf/train_asr_conformer_finetune.yaml" "$@"
