#!/usr/bin/env bash
# Fine-tuning, as the published claim is about: a recogniser trained on native speech alone (American,
# British and Scottish, other speakers and sentences) is trained on with eight accents, by each arm.
#   local/finetune.sh NAME "UNSEEN ACCENTS" ["ARMS" ["SEEDS"]]
# NAME is the folder of this rotation of the unseen accents, rotations/NAME. On two cores about 10 minutes
# for the native recogniser and 4 for each arm and seed.
here=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")
if [ $# -lt 2 ]; then
    sed -n '2,6s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit 2
fi
name=$1 unseen=$2 arms=${3:-specaug none saliency random accent_mix} seeds=${4:-1}
rotations=$here/rotations
places() { echo --corpus_dir "$rotations/$1/corpus" --datadir "$rotations/$1/data" --dumpdir "$rotations/$1/dump"; }

set -e
# shellcheck disable=SC2046  # places has no blanks to keep together but those of the checkout's path
"$here/run.sh" $(places native) --expdir "$rotations/native/exp" --accents "american british scottish" \
    --unseen_accents "" --test_sets test --train_speakers 100 --dev_speakers 10 --corpus_seed 9 \
    --arms specaug --asr_config "$here/conf/train_asr_conformer_native.yaml" --stop_stage 6
"$here/run.sh" $(places native) --expdir "$rotations/native/exp" --accents "american british scottish" \
    --unseen_accents "" --test_sets test --train_speakers 100 --dev_speakers 10 --corpus_seed 9 \
    --arms specaug --asr_config "$here/conf/train_asr_conformer_native.yaml" --stage 10 --stop_stage 13
native=$rotations/native/exp/asr_train_asr_conformer_native_specaug_raw_en_bpe80
"$here/run.sh" $(places "$name") --expdir "$rotations/$name/exp" --unseen_accents "$unseen" \
    --arms "$arms" --seeds "$seeds" --pretrained_model "$native" \
    --asr_config "$here/conf/train_asr_conformer_finetune.yaml"
