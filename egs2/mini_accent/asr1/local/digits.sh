#!/usr/bin/env bash
# Connected digits from scratch: ten words, which a small recogniser learns so well from the accents of
# its training that only unseen ones are hard, and that augmentation pays.
#   local/digits.sh NAME "UNSEEN ACCENTS" ["ARMS" ["SEEDS" [OPTION…]]]
# NAME is the folder of this rotation of the unseen accents, rotations/NAME; options go to run.sh. On two
# cores about 8 minutes for the classifier, and one for each arm and seed.
here=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")
if [ $# -lt 2 ]; then
    sed -n '2,6s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit 2
fi
folder=$here/rotations/$1 unseen=$2 arms=${3:-none specaug saliency random} seeds=${4:-1}
shift $(($# < 4 ? $# : 4))
# Few words are wrong: 48 speakers of each accent, not 24, to tell arms apart.
exec "$here/run.sh" --corpus_dir "$folder/corpus" --datadir "$folder/data" --dumpdir "$folder/dump" \
    --expdir "$folder/exp" --prompts digits --token_type word --test_speakers 48 --test_utterances 1 \
    --asr_config "$here/conf/train_asr_conformer_digits.yaml" \
    --unseen_accents "$unseen" --arms "$arms" --seeds "$seeds" "$@"
