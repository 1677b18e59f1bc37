"""Stage 5: the lists are those of ESPnet's own tools, and ESPnet loads them."""

from __future__ import annotations

import pytest
import sentencepiece

from espnet_saliency.datadir.tokens import make_token_list
from espnet_saliency.errors import UserError

TEXTS = [
    "the boy saw the ship",
    "a ship  sails the sea",
    "she sells sea shells by the shore",
    "the girl can't see the boy",
] * 5


def read(path):
    return path.read_text(encoding="utf-8").split("\n")[:-1]


@pytest.mark.parametrize("token_type", ["char", "word"])
def test_char_and_word_are_what_espnet_writes(tmp_path, token_type):
    from espnet2.bin.tokenize_text import main

    (tmp_path / "text").write_text("".join(f"u{i} {text}\n" for i, text in enumerate(TEXTS)))
    main([
        "--token_type", token_type,
        "--input", f"{tmp_path}/text", "--output", f"{tmp_path}/espnet.txt",
        "--field", "2-", "--write_vocabulary", "true",
        "--add_symbol", "<blank>:0", "--add_symbol", "<unk>:1", "--add_symbol", "<sos/eos>:-1",
    ])  # fmt: skip
    path = make_token_list(iter(TEXTS), tmp_path / token_type, token_type)
    assert path == tmp_path / token_type / "tokens.txt"
    assert path.read_bytes() == (tmp_path / "espnet.txt").read_bytes()


def test_by_hand(tmp_path):
    char = make_token_list(["ba b", "b"], tmp_path / "char", "char")
    assert read(char) == ["<blank>", "<unk>", "b", "a", "<space>", "<sos/eos>"]
    word = make_token_list(["x y", "y"], tmp_path / "word", "word")
    assert read(word) == ["<blank>", "<unk>", "y", "x", "<sos/eos>"]


def test_bpe_is_what_asr_sh_makes(tmp_path):
    path = make_token_list(TEXTS, tmp_path / "bpe, 30", "bpe", 30)
    tokens = read(path)
    assert len(tokens) == 30 and tokens[:2] == ["<blank>", "<unk>"] and tokens[-1] == "<sos/eos>"
    # spm_train with the options of asr.sh, from a file, and its .vocab without the first three.
    train = tmp_path / "train.txt"
    train.write_text("".join(" ".join(text.split()) + "\n" for text in TEXTS))
    sentencepiece.SentencePieceTrainer.train(
        input=str(train), vocab_size=30, model_type="unigram", model_prefix=str(tmp_path / "m"),
        character_coverage=1.0, input_sentence_size=100000000, minloglevel=2,
    )  # fmt: skip
    vocab = (tmp_path / "m.vocab").read_text(encoding="utf-8").splitlines()
    assert tokens[2:-1] == [line.split("\t")[0] for line in vocab[3:]]
    again = make_token_list(TEXTS, tmp_path / "again", "bpe", 30)
    assert (again.parent / "bpe.model").read_bytes() == (path.parent / "bpe.model").read_bytes()
    assert str(tmp_path).encode() not in (path.parent / "bpe.model").read_bytes()


@pytest.mark.parametrize("token_type", ["bpe", "char", "word"])
def test_espnet_loads_it_and_gives_the_text_back(tmp_path, token_type):
    from espnet2.text.build_tokenizer import build_tokenizer
    from espnet2.train.preprocessor import CommonPreprocessor

    path = make_token_list(TEXTS, tmp_path / "tokens", token_type, 30)
    model = str(path.parent / "bpe.model") if token_type == "bpe" else None
    preprocess = CommonPreprocessor(
        train=True, token_type=token_type, token_list=str(path), bpemodel=model
    )
    numbers = preprocess("u1", {"text": TEXTS[3]})["text"]
    tokens = read(path)
    assert numbers.min() >= 2 and numbers.max() < len(tokens) - 1
    tokenizer = build_tokenizer(token_type, bpemodel=model)
    text = tokenizer.tokens2text([tokens[number] for number in numbers])
    # ESPnet's WordTokenizer joins with blanks, the others know where a blank was.
    assert text == TEXTS[3]


def test_a_long_text_is_not_left_out(tmp_path):
    # SentencePiece skips lines of more than 4192 bytes unless told otherwise.
    path = make_token_list(["a b c", "zy " * 3000], tmp_path / "bpe", "bpe", 9)
    assert {"z", "y"} & set("".join(read(path)[2:-1]))


@pytest.mark.parametrize(
    "nbpe, message",
    [
        (500, r"--nbpe 500: .* support (\d+) bpe tokens at most"),
        (4, r"--nbpe 4: .* need (\d+) bpe tokens at least"),
    ],
)
def test_nbpe_that_the_texts_do_not_allow(tmp_path, nbpe, message):
    import re

    with pytest.raises(UserError, match=message) as error:
        make_token_list(TEXTS, tmp_path / "bpe", "bpe", nbpe)
    assert "\n" not in str(error.value) and not (tmp_path / "bpe").exists()
    # The value that the message names works.
    allowed = int(re.search(message, str(error.value))[1])
    assert len(read(make_token_list(TEXTS, tmp_path / "bpe", "bpe", allowed))) == allowed


@pytest.mark.parametrize("token_type", ["bpe", "char", "word"])
def test_texts_without_a_letter(tmp_path, token_type):
    with pytest.raises(UserError, match="no letter"):
        make_token_list(["", "  ", "."], tmp_path / "t", token_type)


def test_unknown_token_type(tmp_path):
    with pytest.raises(UserError, match="--token_type phn: one of bpe, char, word"):
        make_token_list(TEXTS, tmp_path / "t", "phn")
