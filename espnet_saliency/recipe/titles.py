"""What the stages are called; apart from the stages, which need torch, so that --help is quick."""

TITLES = {
    1: "corpus to data directories",
    2: "speed perturbation of the training set",
    3: "16 kHz mono FLAC, one file an utterance",
    4: "training and validation sets without what is too short, too long or empty",
    5: "token list",
    6: "language model: training and perplexity (with --use_lm true)",
    7: "accent classifier: training",
    8: "accent classifier: accuracy on speakers that it has not heard",
    9: "saliency: stored maps of the training set, faithfulness of the maps, pictures",
    10: "statistics of the recogniser's features",
    11: "training of the recogniser, one experiment an arm",
    12: "decoding",
    13: "scoring: WER and CER, overall and by accent",
    14: "comparison of the arms, report",
    15: "packing",
}
